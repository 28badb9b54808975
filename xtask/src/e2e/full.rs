//! Full mode with the real client, its provider's own host and another one: what asks no model reaches the provider itself, with the user's
//! own credential, while the spare answers for the model; and the other host's TLS is its own. Never leaves this machine.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use hotspare_testkit::{Received, Script, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::authority::Authority;
use super::canary::Secret;
use super::faults::{self, SECOND};
use super::first_run::NewUser;
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "what asks no model, and other hosts, with a login";

/// The host that is terminated, and the one where the client renews its login.
const PROVIDER: &str = "api.anthropic.com";
pub(super) const OTHER: &str = "platform.claude.com";

/// Where a client's model is asked.
const MODEL: &str = "/v1/messages";

/// Most bytes of a head that the company's proxy reads.
const HEAD_CAP: usize = 16 * 1024;

pub(super) async fn run(tools: &Tools) -> Result<()> {
    let primary = Upstream::start(|_| faults::status(529, "overloaded_error")).await?;
    let spare = Upstream::start(|_| faults::healthy(SECOND)).await?;
    let world = World::new(tools, &primary.url(), &spare.url(), Login::Stored).await?;
    let issuer = Authority::new()?;
    let (provider, other) = (Host::start(PROVIDER, &issuer).await?, Host::start(OTHER, &issuer).await?);
    let company = Company::start(vec![(PROVIDER, provider.address), (OTHER, other.address)]).await?;
    std::fs::write(world.path("company.pem"), &issuer.pem)?;
    let mut environment: Vec<_> = world.environment().into_iter().filter(|(name, _)| *name != "HTTPS_PROXY").collect();
    environment.push(("HTTPS_PROXY", format!("http://{}", company.address).into()));
    environment.push(("NODE_EXTRA_CA_CERTS", world.path("company.pem").into()));
    let user = NewUser { world: &world, environment };
    let (config, claude) = (world.config.to_string_lossy(), tools.claude.to_string_lossy());
    let command = ["run", "--config", &config, "--mode", "full", "--", &claude, "-p", "Say something."];
    let said = user.runs(&tools.hotspare, &command).await?;
    ensure!(said.trim() == SECOND, "the answer: {said}");
    for upstream in [&primary, &spare] {
        let strays: Vec<String> = upstream.requests().iter().filter(|request| request.path() != MODEL).map(line).collect();
        ensure!(strays.is_empty(), "what asks no model went to a profile: {strays:?}");
    }
    judge_provider(&provider.upstream.requests())?;
    judge_other(&other.upstream.requests())?;
    company.has_learned_nothing()
}

/// The provider itself saw what asks no model, as the client sent it, and no question to a model.
fn judge_provider(requests: &[Received]) -> Result<()> {
    let asked: Vec<String> = requests.iter().map(line).collect();
    println!("        the provider itself was asked {asked:?}");
    ensure!(asked.iter().any(|line| line.contains(" /api/")), "nothing of `/api/` reached the provider: {asked:?}");
    for request in requests {
        let head = String::from_utf8_lossy(&request.raw_head);
        ensure!(!head.contains(Secret::Spare.text()), "the spare's key came along:\n{head}");
        let head = head.to_ascii_lowercase();
        ensure!(request.path() != MODEL, "a model was asked past the chain:\n{head}");
        ensure!(!head.contains("hotspare") && !head.contains("hs-"), "something of ours came along:\n{head}");
        ensure!(head.contains(&format!("host: {PROVIDER}\r\n")), "it went to another host:\n{head}");
    }
    let own = requests.iter().filter(|request| String::from_utf8_lossy(&request.raw_head).contains(Secret::Client.text())).count();
    ensure!(own > 0, "no request had the user's own credential: {asked:?}");
    Ok(())
}

/// The client trusts hotspare's authority for the provider's name alone, and the company's, whose key is here: whatever it said to this host,
/// it has seen this host's own certificate.
fn judge_other(requests: &[Received]) -> Result<()> {
    let asked: Vec<String> = requests.iter().map(line).collect();
    println!("        {OTHER} was asked {asked:?}");
    ensure!(!asked.is_empty(), "the client said nothing to {OTHER}");
    let ours = requests.iter().find(|request| String::from_utf8_lossy(&request.raw_head).to_ascii_lowercase().contains("hotspare"));
    ensure!(ours.is_none(), "something of ours came along: {ours:?}");
    Ok(())
}

fn line(request: &Received) -> String {
    format!("{} {}", request.method, request.path())
}

/// A host with a certificate in its name, and what it was asked.
pub(super) struct Host {
    pub(super) address: SocketAddr,
    pub(super) upstream: Upstream,
}

impl Host {
    async fn start(name: &str, authority: &Authority) -> Result<Self> {
        Self::in_front_of(Upstream::start(|_| Script::not_found()).await?, name, authority).await
    }

    /// A host whose requests this upstream answers.
    pub(super) async fn in_front_of(upstream: Upstream, name: &str, authority: &Authority) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, behind, acceptor) = (listener.local_addr()?, upstream.addr(), authority.acceptor(&[name])?);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not take the certificate asks nothing.
                    let Ok(mut tls) = acceptor.accept(stream).await else { return };
                    let Ok(mut plain) = TcpStream::connect(behind).await else { return };
                    let _ = copy_bidirectional(&mut tls, &mut plain).await;
                });
            }
        });
        Ok(Self { address, upstream })
    }
}

/// A company's proxy: it leads to these hosts, and lets nothing else out.
pub(super) struct Company {
    pub(super) address: SocketAddr,
    heads: Arc<Mutex<String>>,
}

impl Company {
    pub(super) async fn start(hosts: Vec<(&'static str, SocketAddr)>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (heads, hosts) = (Arc::<Mutex<String>>::default(), Arc::new(hosts));
        let hearing = heads.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A tunnel that breaks is the client's to mind.
                tokio::spawn(tunnel(stream, hosts.clone(), hearing.clone()));
            }
        });
        Ok(Self { address, heads })
    }

    /// It saw tunnels alone, and no credential.
    pub(super) fn has_learned_nothing(&self) -> Result<()> {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner).to_ascii_lowercase();
        ensure!(
            !heads.contains("proxy-authorization") && !heads.contains("sk-ant"),
            "the company's proxy has learned a credential: {heads}"
        );
        Ok(())
    }
}

async fn tunnel(mut stream: TcpStream, hosts: Arc<Vec<(&'static str, SocketAddr)>>, heads: Arc<Mutex<String>>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_CAP {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    heads.lock().unwrap_or_else(PoisonError::into_inner).push_str(&head);
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(":443 ")).map(|(host, _)| host);
    let Some((_, address)) = hosts.iter().find(|(name, _)| Some(*name) == target) else {
        return Ok(stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?);
    };
    let mut host = TcpStream::connect(address).await.context("a host of this test")?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut host).await?;
    Ok(())
}
