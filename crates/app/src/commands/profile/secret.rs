//! Takes a credential from a person or a pipe and puts it into the keychain. Never shows it, and never takes it from an argument.

use std::io::{self, BufRead, IsTerminal, Read, Write, stderr, stdin};

use hotspare_upstream::{Keychain, Looked, Place};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

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

/// Stores a credential in the keychain; the words say where that is. What the keychain has under the name stays, unless `replaces`.
pub(super) fn keep(entry: &str, secret: &SecretString, replaces: bool) -> Result<String, CliError> {
    let (keychain, runtime) = (Keychain::of_user(), commands::runtime()?);
    let is_same = match runtime.block_on(keychain.look(entry)) {
        Looked::Held(held) => held.expose_secret().trim() == secret.expose_secret().trim(),
        Looked::Absent | Looked::Occupied => false,
    };
    if is_same {
        return Ok(format!("in the keychain already, under `{entry}`"));
    }
    let kept = if replaces { runtime.block_on(keychain.store(entry, secret)) } else { runtime.block_on(keychain.add(entry, secret)) };
    match kept {
        Ok(Place::System(program)) => Ok(format!("kept in the operating system's keychain under `{entry}` (by {program})")),
        Ok(Place::File(file)) => Ok(format!("kept in {} (mode 0600: there is no keychain here)", file.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(CliError::new(Exit::Failed, format!("the keychain has another credential under `{entry}`: nothing was changed"))
                .hint("`--keychain NAME` stores this one under another name")
                .hint("`--replace` puts it in the place of that one"))
        }
        Err(error) => Err(CliError::new(Exit::Failed, format!("the credential cannot be kept: {error}"))),
    }
}
