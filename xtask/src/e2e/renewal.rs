//! A second login whose token has run out, behind a primary whose window is used up: Claude Code renews it in its own folder while the turn is
//! held. A token endpoint with a certificate of a test authority stands for the real one; the login's own settings lead to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};

use super::authority::Authority;
use super::canary::{self, Secret};
use super::cases::Expect;
use super::client;
use super::faults::{self, SECOND};
use super::full::{Company, Host, OTHER};
use super::world::{Login, Tools, World};

pub(super) const RENEWED: &str = "second login ran out a day ago";
pub(super) const ENDED: &str = "second login has a dead refresh token";

/// Where the client renews its login (measured, 2.1.332).
const TOKEN_ENDPOINT: &str = "/v1/oauth/token";

/// A turn behind a renewal takes at most this much longer than one with a fresh login.
const MAX_DETOUR: Duration = Duration::from_secs(3);

const A_DAY: u64 = 86_400;

/// The access token that ran out, and is sent nowhere.
const OLD: &str = "sk-ant-oat01-test-ran-out";

/// The primary's window is used up, the second login answers with its own token alone, and the third profile is a key.
struct Lab {
    world: World,
    primary: Upstream,
    second: Upstream,
    third: Upstream,
    endpoint: Host,
    company: Company,
}

impl Lab {
    async fn new(tools: &Tools, token: &str, expires: u64, endpoint: fn(&Received) -> Script) -> Result<Self> {
        let primary = Upstream::start(|_| faults::quota()).await?;
        let second = Upstream::start(|request| match request.header("authorization") {
            Some(token) if token.ends_with(Secret::Personal.text()) => faults::healthy(SECOND),
            _ => faults::status(401, "authentication_error"),
        })
        .await?;
        let third = Upstream::start(|_| faults::healthy(SECOND)).await?;
        let world = World::new(tools, &primary.url(), &third.url(), Login::None).await?;
        let authority = Authority::new()?;
        let endpoint = Host::in_front_of(Upstream::start(endpoint).await?, OTHER, &authority).await?;
        let company = Company::start(vec![(OTHER, endpoint.address)]).await?;
        let lab = Self { world, primary, second, third, endpoint, company };
        lab.write_login(&authority, token, expires)?;
        Ok(lab)
    }

    fn write_login(&self, authority: &Authority, token: &str, expires: u64) -> Result<()> {
        let folder = self.world.path("logins/personal");
        fs::create_dir_all(&folder)?;
        let certificates = self.world.path("company.pem");
        fs::write(&certificates, &authority.pem)?;
        let way_out = json!({ "env": { "HTTPS_PROXY": format!("http://{}", self.company.address), "NODE_EXTRA_CA_CERTS": certificates } });
        fs::write(folder.join("settings.json"), way_out.to_string())?;
        let login = json!({ "claudeAiOauth": {
            "accessToken": token, "refreshToken": Secret::Refresh.text(), "expiresAt": expires * 1000,
            "scopes": ["user:inference", "user:profile"], "subscriptionType": "max",
        }});
        let file = folder.join(".credentials.json");
        fs::write(&file, login.to_string())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let mut config: Value = serde_json::from_slice(&fs::read(&self.world.config)?)?;
        config["failover_policy"]["secondary_profile"] = json!(["second", "spare"]);
        config["profiles"]["second"] = json!({ "base_url": self.second.url(), "auth": { "claude_config_dir": folder } });
        fs::write(&self.world.config, serde_json::to_string_pretty(&config)?)?;
        Ok(())
    }

    /// One turn of the client, and how long it took.
    async fn turn(&self, tools: &Tools) -> Result<Duration> {
        let begun = Instant::now();
        client::print(tools, &self.world, Expect::Spare).await?;
        let took = begun.elapsed();
        canary::look_around(tools, &self.world)?;
        ensure!(self.primary.messages().len() == 1, "a spent window was asked {} times", self.primary.messages().len());
        self.company.has_learned_nothing()?;
        Ok(took)
    }

    /// How often the client asked for another token.
    fn renewals(&self) -> usize {
        self.endpoint.upstream.requests().iter().filter(|request| request.method == "POST" && request.path() == TOKEN_ENDPOINT).count()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn fresh_token(request: &Received) -> Script {
    if request.path() != TOKEN_ENDPOINT {
        return Script::not_found();
    }
    let token = json!({
        "token_type": "Bearer", "access_token": Secret::Personal.text(), "expires_in": 28_800,
        "refresh_token": "sk-ant-ort01-test-next", "scope": "user:inference user:profile",
    });
    Script::new().body(200, &[("content-type", "application/json")], token.to_string())
}

fn refusal(_: &Received) -> Script {
    let refusal = json!({ "error": "invalid_grant", "error_description": "Refresh token not found or invalid" });
    Script::new().body(400, &[("content-type", "application/json")], refusal.to_string())
}

pub(super) async fn renewed(tools: &Tools) -> Result<()> {
    let fresh = Lab::new(tools, Secret::Personal.text(), now() + A_DAY, fresh_token).await?;
    let usual = fresh.turn(tools).await?;
    ensure!(fresh.renewals() == 0, "a login that lives was renewed");

    let lab = Lab::new(tools, OLD, now() - A_DAY, fresh_token).await?;
    let took = lab.turn(tools).await?;
    println!("        a turn with a fresh login took {:.1} s, one with a renewal {:.1} s", usual.as_secs_f64(), took.as_secs_f64());
    ensure!(took <= usual + MAX_DETOUR, "the renewal cost {:.1} s", took.saturating_sub(usual).as_secs_f64());
    let (second, third) = (lab.second.messages().len(), lab.third.messages().len());
    ensure!((second, third, lab.renewals()) == (1, 0, 1), "{second} to the second login, {third} to the key, {} renewals", lab.renewals());
    let why = fs::read_to_string(lab.world.path("said/why"))?;
    ensure!(why.contains("login renewed by Claude Code"), "`why` does not name the renewal:\n{why}");
    Ok(())
}

pub(super) async fn ended(tools: &Tools) -> Result<()> {
    let lab = Lab::new(tools, OLD, now() - A_DAY, refusal).await?;
    lab.turn(tools).await?;
    let (second, third) = (lab.second.messages().len(), lab.third.messages().len());
    ensure!((second, third, lab.renewals()) == (0, 1, 1), "{second} to the second login, {third} to the key, {} renewals", lab.renewals());
    let command = format!("CLAUDE_CONFIG_DIR={} claude auth login", lab.world.path("logins/personal").display());
    let said = fs::read_to_string(lab.world.path("said/claude"))?;
    let notices = said.lines().filter(|line| line.starts_with("hotspare: ") && line.contains(&command)).collect::<Vec<_>>();
    ensure!(matches!(notices[..], [notice] if notice.contains("the login of second has ended")), "the notices: {notices:#?}");
    let why = fs::read_to_string(lab.world.path("said/why"))?;
    ensure!(why.contains("has ended"), "`why` does not name the login:\n{why}");
    Ok(())
}
