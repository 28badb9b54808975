//! Runs the program that prints a credential, and keeps its answer for a while. Never runs it twice at the same time, never passes it an
//! input, and never shows what it printed.

use std::process::Stdio;
use std::time::Instant;

use secrecy::zeroize::{Zeroize, Zeroizing};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use super::{CredentialError, Limits, SECRET_CAP};
use crate::clock;

/// What a program last answered.
#[derive(Default)]
pub(super) struct Cache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    answer: Option<(Instant, SecretString)>,
    /// The provider has rejected the answer, and the program has not been asked again since.
    refused: bool,
    /// The program gave the same again after that: it has nothing better for now.
    stuck: bool,
    /// How the last run ended; `None` before the first.
    last: Option<Result<(), CredentialError>>,
}

impl Cache {
    /// The kept answer, or a new one. One caller runs the program, the others wait for its answer.
    pub(super) async fn run(&self, argv: &[String], limits: Limits) -> Result<SecretString, CredentialError> {
        let mut kept = self.0.lock().await;
        if let Some((since, secret)) = &kept.answer
            && since.elapsed() < limits.ttl
            && !kept.refused
        {
            return Ok(secret.clone());
        }
        let ran = run(argv, limits).await;
        kept.last = Some(ran.as_ref().map(|_| ()).map_err(Clone::clone));
        let secret = ran?;
        let same = |(_, old): &(Instant, SecretString)| old.expose_secret() == secret.expose_secret();
        kept.stuck = kept.refused && kept.answer.as_ref().is_some_and(same);
        kept.refused = false;
        kept.answer = Some((Instant::now(), secret.clone()));
        Ok(secret)
    }

    /// How the last run ended; `None` before the first, or while the program runs.
    pub(super) fn last_result(&self) -> Option<Result<(), CredentialError>> {
        self.0.try_lock().ok()?.last.clone()
    }

    /// The provider has rejected a credential. If it is the kept one, the next caller runs the program again, but not over and over.
    pub(super) async fn refuse(&self, is_refused: impl Fn(&SecretString) -> bool) {
        let mut kept = self.0.lock().await;
        if !kept.stuck && kept.answer.as_ref().is_some_and(|(_, secret)| is_refused(secret)) {
            kept.refused = true;
        }
    }
}

async fn run(argv: &[String], limits: Limits) -> Result<SecretString, CredentialError> {
    let (program, arguments) = argv.split_first().ok_or(CredentialError::Unusable("an empty command"))?;
    let failed = |reason: String| CredentialError::CommandFailed { command: program.clone(), reason };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let stdout = child.stdout.take().expect("stdout was piped a line above");
    let work = async {
        let mut output = Zeroizing::new(Vec::with_capacity(SECRET_CAP + 1));
        stdout.take(SECRET_CAP as u64 + 1).read_to_end(&mut output).await.map_err(|error| failed(error.to_string()))?;
        if output.len() > SECRET_CAP {
            // It may never end by itself: dropping it kills it.
            return Err(failed("printed more than a credential".to_owned()));
        }
        let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
        Ok::<_, CredentialError>((status, output))
    };
    let (status, output) = clock::timeout(limits.timeout, work)
        .await
        .ok_or_else(|| failed(format!("gave no answer within {} s", limits.timeout.as_secs_f64())))??;
    if !status.success() {
        return Err(failed(format!("ended with {status}")));
    }
    let text = std::str::from_utf8(&output).map_err(|_| CredentialError::Unusable("the command"))?;
    let mut line = text.lines().next().unwrap_or_default().to_owned();
    let secret = SecretString::from(line.clone());
    line.zeroize();
    Ok(secret)
}
