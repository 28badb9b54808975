//! What the people of a simulation have lived through. Never judges it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::{Client, Turn};
use crate::question::Question;

/// One turn of one person.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub person: String,
    pub client: Client,
    pub question: Question,
    /// None when the person did not wait for the end.
    pub turn: Option<Turn>,
}

/// Numbers of a seed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub turns: u64,
    pub requests: u64,
    pub aborts: u64,
    pub visible_errors: u64,
}

/// All pages of all people.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    pages: Vec<Page>,
    complaints: Vec<String>,
    visible_errors: u64,
}

impl Diary {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, page: Page) {
        self.inside().pages.push(page);
    }

    pub(crate) fn pages(&self) -> Vec<Page> {
        self.inside().pages.clone()
    }

    /// Something that a person saw go against an invariant while it happened.
    pub(crate) fn complain(&self, complaint: String) {
        self.inside().complaints.push(complaint);
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.inside().complaints.clone()
    }

    pub(crate) fn saw_an_error(&self) {
        self.inside().visible_errors += 1;
    }

    pub(crate) fn counts(&self) -> Counts {
        let inside = self.inside();
        let ended = inside.pages.iter().filter_map(|page| page.turn.as_ref());
        Counts {
            turns: inside.pages.len() as u64,
            requests: ended.map(|turn| turn.requests.len() as u64).sum(),
            aborts: inside.pages.iter().filter(|page| page.turn.is_none()).count() as u64,
            visible_errors: inside.visible_errors,
        }
    }
}
