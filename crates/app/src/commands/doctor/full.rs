//! Looks at what full mode stands on: this machine's authority, the file that Claude Code trusts, and a handshake through the port that runs.
//! With `--fix` makes the authority anew and writes that file; never touches a file that is not hotspare's.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hotspare_config::Locations;
use hotspare_gateway::intercept::proof;

use super::Running;
use super::check::{Check, Mark};
use super::settings::Setup;
use crate::authority::{self, Kept};
use crate::wiring::outward::Outward;
use crate::{claude, words};

const NAME: &str = "full-mode";

const FIX: &str = "hotspare doctor --fix";

/// All of it; one line where nobody is led so and no authority was ever made.
pub(super) async fn checks(setup: &Setup, running: &[Running], locations: &Locations, fix: bool) -> Vec<Check> {
    let led = setup.our_proxy();
    let state_dir = &locations.state_dir;
    if led.is_none() && !authority::key_file(state_dir).exists() {
        return vec![Check::ok(NAME, "not in use")];
    }
    let mut checks = vec![authority_checked(fix, state_dir)];
    let Some((_, proxy)) = led else { return checks };
    let file = setup.value(claude::EXTRA_CERTIFICATES).map(|(_, file)| PathBuf::from(file));
    checks.push(mended(fix, || trust_check(state_dir, file.as_deref()), || trusted_anew(state_dir, file.as_deref()), WRITTEN));
    checks.extend(handshake(proxy, file.as_deref(), running).await);
    checks
}

/// One that only nears its end gets its successor; anything else is made anew, which ends what sessions trust that run.
fn authority_checked(fix: bool, state_dir: &Path) -> Check {
    let look = || authority_check(state_dir);
    if look().mark == Mark::Warn {
        return mended(fix, look, || authority::lasting(state_dir).map(drop), SUCCEEDED);
    }
    mended(fix, look, || authority::renewed(state_dir), RENEWED)
}

const SUCCEEDED: &str = "the next authority was made; sessions that begin from now on trust both";

const RENEWED: &str = "a new authority was made; sessions that run trust the old one, so start them anew";

const WRITTEN: &str = "the file of what Claude Code trusts was written anew";

/// What a look finds, and after mending it, where that is asked for and can be.
fn mended(fix: bool, look: impl Fn() -> Check, mend: impl FnOnce() -> std::io::Result<()>, done: &str) -> Check {
    let found = look();
    if !fix || found.command.as_deref() != Some(FIX) || mend().is_err() {
        return found;
    }
    let mut after = look();
    after.fixed.push(done.to_owned());
    after
}

/// There, nobody else's to read, good for a while, and good for one name alone.
fn authority_check(state_dir: &Path) -> Check {
    let file = authority::key_file(state_dir).display().to_string();
    let now = SystemTime::now();
    let authority = match authority::look(state_dir) {
        Kept::Good(authority) => authority,
        Kept::Missing => return Check::fail(NAME, format!("{file} is missing"), "no client gets through before it is made", FIX),
        Kept::Open => {
            let cause = "others of this machine could have read the key: whoever has it can answer for api.anthropic.com";
            return Check::fail(NAME, format!("{file} can be read by others"), cause, FIX);
        }
        Kept::Broken(why) => return Check::fail(NAME, format!("{file}: {why}"), "no client gets through with it", FIX),
    };
    let left = authority.left(now);
    if !authority.is_constrained(now) {
        let cause = "whoever trusts it would trust it for other hosts too";
        return Check::fail(NAME, "the authority is not bound to api.anthropic.com", cause, FIX);
    }
    let days = format!("the authority holds for {}", words::span(left.as_secs()));
    if authority.is_good(now) {
        Check::ok(NAME, format!("{days}, and for api.anthropic.com alone"))
    } else if left > Duration::ZERO && authority::has_successor(state_dir, now) {
        Check::ok(NAME, format!("{days}, and Claude Code trusts the next one too"))
    } else if left > Duration::ZERO {
        Check::warn(
            NAME,
            days,
            "the service makes the next one when a client comes; sessions that begin before that trust this one alone",
            FIX,
        )
    } else {
        Check::fail(NAME, "the authority has run out", "no client trusts it any more", FIX)
    }
}

/// The client's file holds the certificate that the port shows (security.md T21).
fn trust_check(state_dir: &Path, file: Option<&Path>) -> Check {
    let cause = "Claude Code refuses what hotspare shows it: no request gets through";
    let Some(file) = file else {
        return Check::fail(NAME, "NODE_EXTRA_CA_CERTS is not set beside the proxy", cause, "hotspare install claude");
    };
    let command = if authority::is_ours(state_dir, file) { FIX } else { "hotspare install claude" };
    let shown = file.display();
    let Ok(pem) = std::fs::read_to_string(file) else {
        return Check::fail(NAME, format!("{shown} cannot be read"), cause, command);
    };
    match authority::look(state_dir) {
        Kept::Good(authority) if !proof::holds(&pem, authority.certificate_pem()) => {
            Check::fail(NAME, format!("{shown} does not hold this machine's certificate"), cause, command)
        }
        _ => Check::ok(NAME, format!("Claude Code trusts {shown}")),
    }
}

fn trusted_anew(state_dir: &Path, file: Option<&Path>) -> std::io::Result<()> {
    let own = Outward::kept(state_dir).and_then(|kept| kept.certificates);
    let (written, _) = authority::trusted(state_dir, own.as_deref())?;
    if Some(written.as_path()) == file { Ok(()) } else { Err(std::io::Error::other("the settings name another file")) }
}

/// As a client would: a tunnel with the settings' token, and TLS with what the settings' file trusts.
async fn handshake(proxy: &str, file: Option<&Path>, running: &[Running]) -> Option<Check> {
    let (address, token, file) = (claude::our_proxy(proxy)?, claude::proxy_token(proxy)?, file?);
    // Where nobody listens, that is told already.
    running.iter().find(|one| one.instance.address == address)?;
    Some(match authority::proven(address, token, file).await {
        Ok(()) => Check::ok(NAME, format!("{address} shows a certificate for api.anthropic.com that Claude Code trusts")),
        Err(why) => {
            let cause = "no request of a session in full mode gets through";
            Check::fail(NAME, format!("a handshake through {address} fails: {why}"), cause, "hotspare service restart")
        }
    })
}
