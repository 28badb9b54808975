//! Takes a credential from a person or a pipe and puts it into the keychain. Never shows it, and never takes it from an argument.

use std::io::{self, BufRead, IsTerminal, Read, Write, stderr, stdin};

use hotspare_upstream::{Keychain, Place};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::commands;
use crate::error::{CliError, Exit};

/// Longest credential that is taken, in bytes.
const CAP: u64 = 16 * 1024;

/// Reads a credential: one line of a terminal, unseen, or all of a pipe.
pub(super) fn read(name: &str) -> Result<SecretString, CliError> {
    let text = if stdin().is_terminal() { from_terminal(name)? } else { from_pipe()? };
    let secret = text.trim();
    if secret.is_empty() {
        return Err(CliError::new(Exit::Usage, "no credential came by stdin")
            .hint(format!("`hotspare profile add {name} --keychain < key.txt`, or start it in a terminal and be asked")));
    }
    if secret.contains(|c: char| c.is_control()) {
        return Err(CliError::new(Exit::Usage, "what came by stdin is more than one line: no header can hold it"));
    }
    Ok(SecretString::from(secret))
}

fn from_pipe() -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    stdin().lock().take(CAP).read_to_string(&mut text)?;
    Ok(text)
}

fn from_terminal(name: &str) -> io::Result<Zeroizing<String>> {
    write!(stderr(), "credential of `{name}` (not shown): ")?;
    let mut text = Zeroizing::new(String::new());
    {
        let _unseen = Unseen::begin()?;
        stdin().lock().take(CAP).read_line(&mut text)?;
    }
    writeln!(stderr())?;
    Ok(text)
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Unseen(Termios);

impl Unseen {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &unseen)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Puts it into the keychain; in words where that is.
pub(super) fn keep(entry: &str, secret: &SecretString) -> Result<String, CliError> {
    let kept = commands::runtime()?.block_on(Keychain::of_user().store(entry, secret));
    match kept {
        Ok(Place::System(program)) => Ok(format!("kept in the operating system's keychain under `{entry}` (by {program})")),
        Ok(Place::File(file)) => Ok(format!("kept in {} (mode 0600: there is no keychain here)", file.display())),
        Err(error) => Err(CliError::new(Exit::Failed, format!("the credential cannot be kept: {error}"))),
    }
}
