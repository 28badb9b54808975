//! Measures what hotspare costs: time added to an answer and to each event, processor time, memory, and the price of a hop. Compares with no proxy at all and
//! with nginx, in interleaved rounds of one run. Not part of `ci`: a shared machine is no judge of microseconds.

mod body;
mod client;
mod commands;
mod http1;
mod place;
mod process;
mod report;
mod stats;
mod target;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use body::Play;
use client::Connection;
use place::{Cores, Placement};
use report::{Aim, number, ratio, table};
use stats::{Rounds, median, micros, quantile};
use target::{Programs, Target, Upstream, Way};

use crate::workspace;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Streams that are open at one time.
const STREAMS: usize = 500;

/// The largest body that hotspare takes unless told otherwise.
const LARGEST: usize = 32 * 1024 * 1024;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Volume {
    rounds: usize,
    /// Requests per round and target, for small and for large bodies.
    requests: usize,
    large_requests: usize,
    paced_rounds: usize,
    hops: usize,
    /// Runs of each command.
    runs: usize,
}

const FULL: Volume = Volume { rounds: 40, requests: 300, large_requests: 20, paced_rounds: 10, hops: 25, runs: 300 };
const QUICK: Volume = Volume { rounds: 8, requests: 50, large_requests: 5, paced_rounds: 2, hops: 5, runs: 100 };

/// What can be measured alone.
const PARTS: [&str; 4] = ["latency", "memory", "hop", "commands"];

/// What is asked for on the command line.
struct Options {
    volume: Volume,
    programs: Programs,
    /// The parts that are wanted; none named: all.
    only: Vec<String>,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

/// One size of request body.
#[derive(Debug, Clone, Copy)]
struct Size {
    name: &'static str,
    bytes: usize,
    large: bool,
    /// Most that the whole answer's added p50 may be, in nginx's.
    aim: Option<f64>,
}

const SIZES: [Size; 3] = [
    Size { name: "2 KB", bytes: 2 * 1024, large: false, aim: Some(4.0) },
    Size { name: "200 KB", bytes: 200 * 1024, large: false, aim: Some(3.0) },
    Size { name: "5 MB", bytes: 5 * 1024 * 1024, large: true, aim: None },
];

/// Runs the bench with the command line's options.
pub(crate) fn run(options: &[&str]) -> anyhow::Result<()> {
    let options = read_options(options)?;
    let (volume, programs) = (&options.volume, &options.programs);
    let begun = Instant::now();
    allow_many_sockets()?;
    let cores = Cores::find()?;
    cores.gather()?;
    let upstream = Upstream::start()?;
    let mut aims = Vec::new();
    for placement in cores.placements().into_iter().filter(|_| options.wants("latency")) {
        let lanes = |programs: &Programs| cores.start(placement, || lanes(programs, upstream.good));
        latency(volume, programs, placement, lanes, &mut aims)?;
        event_delay(volume, programs, placement, lanes)?;
    }
    cores.scatter()?;
    if options.wants("memory") {
        memory(programs, &upstream, &mut aims)?;
    }
    if programs.hotspare.is_some() && options.wants("hop") {
        failover(volume, programs, &upstream)?;
    }
    if programs.hotspare.is_some() && options.wants("commands") {
        commands::measure(programs, &upstream, volume.runs, &mut aims)?;
    }
    conclude(&aims, begun);
    Ok(())
}

fn read_options(options: &[&str]) -> anyhow::Result<Options> {
    let mut volume = FULL;
    let mut without = Vec::new();
    let mut build = None;
    let mut only = Vec::new();
    let mut options = options.iter().copied();
    while let Some(option) = options.next() {
        match option {
            "--quick" => volume = QUICK,
            "--without" => without.push(options.next().context("`--without` needs `hotspare` or `nginx`")?),
            "--hotspare" => build = Some(options.next().context("`--hotspare` needs a binary")?.into()),
            "--only" => match options.next() {
                Some(part) if PARTS.contains(&part) => only.push(part.to_owned()),
                _ => bail!("`--only` needs one of {}", PARTS.join(", ")),
            },
            other => bail!("`{other}` is no option of the bench: --quick, --only PART, --without hotspare|nginx, --hotspare BINARY"),
        }
    }
    let hotspare = match build {
        _ if without.contains(&"hotspare") => None,
        None => Some(workspace::hotspare(true)?),
        build => build,
    };
    let nginx = if without.contains(&"nginx") { None } else { Some(target::find_nginx()?) };
    Ok(Options { volume, programs: Programs { hotspare, nginx }, only })
}

/// Raises the soft limit of open files; the proxies inherit it.
fn allow_many_sockets() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8192, |maximum| maximum.min(8192));
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    }
    Ok(())
}

/// What one target showed at one size.
#[derive(Debug)]
struct Lane {
    way: Way,
    target: Target,
    connection: Connection,
    first_byte: Rounds,
    whole: Rounds,
    asked: usize,
    processor: f64,
}

impl Lane {
    /// How many times its usual answer its slowest one in a hundred takes.
    fn tail(&self) -> f64 {
        self.whole.p99() / self.whole.p50()
    }
}

fn lanes(programs: &Programs, upstream: SocketAddr) -> anyhow::Result<Vec<Lane>> {
    let lane = |way: Way| {
        let target = programs.start(way, upstream)?;
        let connection = Connection::open(target.address)?;
        Ok(Lane { way, target, connection, first_byte: Rounds::default(), whole: Rounds::default(), asked: 0, processor: 0.0 })
    };
    programs.ways().into_iter().map(lane).collect()
}

/// Time to the first byte and to the end, at every size, on one keep-alive connection per target.
fn latency(
    volume: &Volume,
    programs: &Programs,
    placement: Placement,
    lanes: impl Fn(&Programs) -> anyhow::Result<Vec<Lane>>,
    aims: &mut Vec<Aim>,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for size in SIZES {
        let mut lanes = lanes(programs)?;
        measure_latency(volume, size, &mut lanes)?;
        let nginx = lanes.iter().find(|lane| lane.way == Way::Nginx);
        let direct = &lanes[0];
        rows.extend(lanes.iter().map(|lane| latency_row(size, lane, direct, nginx)));
        if let Some(hotspare) = lanes.iter().find(|lane| lane.way == Way::Hotspare) {
            aims.extend(latency_aims(size, placement, hotspare, direct, nginx));
        }
    }
    let head = [
        "body",
        "way",
        "first byte p50 µs",
        "p99",
        "whole p50 µs",
        "p99",
        "+first p50",
        "+first p99",
        "+whole p50",
        "+whole p99",
        "+p50/nginx",
        "+p99/nginx",
        "req/CPU s",
    ];
    let title =
        format!("Latency on {} (medians of interleaved rounds; + is what comes on top of direct, round by round)", placement.name());
    table(&title, &head, &rows);
    Ok(())
}

fn measure_latency(volume: &Volume, size: Size, lanes: &mut [Lane]) -> anyhow::Result<()> {
    let requests = if size.large { volume.large_requests } else { volume.requests };
    let mut asks: Vec<_> = lanes.iter().map(|lane| lane.target.request(Play::Plain, size.bytes)).collect();
    let mut expected: Option<Vec<u8>> = None;
    for (lane, ask) in lanes.iter_mut().zip(&mut asks) {
        for _ in 0..requests {
            lane.connection.ask(ask.next()).with_context(|| lane.way.name())?;
        }
        // A proxy that answers fast but wrong is not fast.
        ensure!(
            lane.connection.body() == expected.get_or_insert_with(|| lane.connection.body().to_vec()),
            "{} changed the answer",
            lane.way.name()
        );
        lane.processor = -processor(lane)?;
    }
    for round in 0..volume.rounds {
        for turn in 0..lanes.len() {
            // Nobody is always first.
            let index = (round + turn) % lanes.len();
            let (lane, ask) = (&mut lanes[index], &mut asks[index]);
            let mut first_byte = Vec::with_capacity(requests);
            let mut whole = Vec::with_capacity(requests);
            for _ in 0..requests {
                let timing = lane.connection.ask(ask.next()).with_context(|| lane.way.name())?;
                first_byte.push(micros(timing.first_byte));
                whole.push(micros(timing.whole));
            }
            lane.asked += requests;
            lane.first_byte.push(&first_byte);
            lane.whole.push(&whole);
        }
    }
    for lane in lanes {
        lane.processor += processor(lane)?;
    }
    Ok(())
}

fn processor(lane: &Lane) -> anyhow::Result<f64> {
    lane.target.process.as_ref().map_or(Ok(0.0), process::Process::processor)
}

fn latency_row(size: Size, lane: &Lane, direct: &Lane, nginx: Option<&Lane>) -> Vec<String> {
    let mut row = vec![size.name.to_owned(), lane.way.name().to_owned()];
    row.extend([lane.first_byte.p50(), lane.first_byte.p99(), lane.whole.p50(), lane.whole.p99()].map(number));
    if lane.way == Way::Direct {
        return row;
    }
    row.extend([lane.first_byte.added_p50(&direct.first_byte), lane.first_byte.added_p99(&direct.first_byte)].map(number));
    let added = (lane.whole.added_p50(&direct.whole), lane.whole.added_p99(&direct.whole));
    row.extend([added.0, added.1].map(number));
    let base = nginx.map_or((0.0, 0.0), |nginx| (nginx.whole.added_p50(&direct.whole), nginx.whole.added_p99(&direct.whole)));
    row.extend([ratio(added.0, base.0), ratio(added.1, base.1)]);
    #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
    row.push(if lane.processor > 0.0 { format!("{:.0}", lane.asked as f64 / lane.processor) } else { "-".to_owned() });
    row
}

fn latency_aims(size: Size, placement: Placement, hotspare: &Lane, direct: &Lane, nginx: Option<&Lane>) -> Vec<Aim> {
    let Some(at_most) = size.aim else { return Vec::new() };
    let conditions = format!("{}, {}", size.name, placement.name());
    let others: Vec<String> = std::iter::once(direct).chain(nginx).map(|lane| format!("{} {:.2}x", lane.way.name(), lane.tail())).collect();
    let beside = format!(" (in the same rounds: {})", others.join(", "));
    let tail = Aim::new(format!("whole answer's p99 over its own p50, {conditions}"), 2.0, "x");
    let mut aims = vec![Aim { measured: hotspare.tail(), beside, ..tail }];
    if let Some(nginx) = nginx {
        let added = hotspare.whole.added_p50(&direct.whole) / nginx.whole.added_p50(&direct.whole);
        aims.push(Aim { measured: added, ..Aim::new(format!("whole answer's added p50 over nginx's, {conditions}"), at_most, "x") });
    }
    aims
}

/// How long an event is on its way, from the upstream's write to the client's read.
fn event_delay(
    volume: &Volume,
    programs: &Programs,
    placement: Placement,
    lanes: impl Fn(&Programs) -> anyhow::Result<Vec<Lane>>,
) -> anyhow::Result<()> {
    let mut lanes = lanes(programs)?;
    for round in 0..volume.paced_rounds {
        for turn in 0..lanes.len() {
            let index = (round + turn) % lanes.len();
            let lane = &mut lanes[index];
            let mut ask = lane.target.request(Play::Paced, SIZES[1].bytes + round);
            let delays = lane.connection.delays(ask.next()).with_context(|| lane.way.name())?;
            ensure!(delays.len() == upstream::PACED_EVENTS, "{} lost events: {} came", lane.way.name(), delays.len());
            lane.whole.push(&delays.into_iter().map(micros).collect::<Vec<_>>());
        }
    }
    let direct = lanes[0].whole.clone();
    let row = |lane: &Lane| {
        let mut row = vec![lane.way.name().to_owned(), number(lane.whole.p50()), number(lane.whole.p99())];
        if lane.way != Way::Direct {
            row.extend([lane.whole.added_p50(&direct), lane.whole.added_p99(&direct)].map(number));
        }
        row
    };
    let rows: Vec<_> = lanes.iter().map(row).collect();
    let title = format!("Delay of one event on {}, at an event every 3 ms", placement.name());
    table(&title, &["way", "p50 µs", "p99", "+p50", "+p99"], &rows);
    Ok(())
}

/// Memory: idle, after work, with many streams open, with the largest body.
fn memory(programs: &Programs, upstream: &Upstream, aims: &mut Vec<Aim>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for way in programs.ways().into_iter().filter(|way| *way != Way::Direct) {
        let worked = after_work(programs, way, upstream.good)?;
        let stream = per_stream(programs, way, upstream.good)?;
        let largest = largest_body(programs, way, upstream.good)?;
        let mut row = vec![way.name().to_owned()];
        row.extend(worked.iter().map(|bytes| number(bytes / MIB)));
        row.extend([number(stream / KIB), format!("{largest:.2}x")]);
        rows.push(row);
        if way == Way::Hotspare {
            aims.extend([
                Aim { measured: worked[0] / MIB, ..Aim::new("memory when idle", 12.0, " MiB") },
                Aim { measured: stream / KIB, ..Aim::new("memory of one of 500 open streams", 40.0, " KiB") },
                Aim { measured: largest, ..Aim::new("growth with a body of 32 MiB, in its size", 1.2, "x") },
            ]);
        }
    }
    let head = ["way", "idle MiB", "after 1,000 x 2 KB", "after 1,000 x 200 KB", "KiB per stream (500 open)", "32 MiB body, peak growth"];
    table("Memory (resident)", &head, &rows);
    Ok(())
}

/// Resident bytes: idle, after 1,000 small requests, after 1,000 of the usual size.
fn after_work(programs: &Programs, way: Way, upstream: SocketAddr) -> anyhow::Result<[f64; 3]> {
    let target = programs.start(way, upstream)?;
    let process = target.process()?;
    let idle = process.resident()?;
    let mut connection = Connection::open(target.address)?;
    let mut after = |size: usize| {
        let mut ask = target.request(Play::Plain, size);
        for _ in 0..1000 {
            connection.ask(ask.next()).with_context(|| way.name())?;
        }
        process.resident()
    };
    Ok([idle, after(SIZES[0].bytes)?, after(SIZES[1].bytes)?])
}

/// Resident bytes that each of many open streams costs.
fn per_stream(programs: &Programs, way: Way, upstream: SocketAddr) -> anyhow::Result<f64> {
    let target = programs.start(way, upstream)?;
    let process = target.process()?;
    // The first request of all brings code into memory; that is not a stream's cost.
    Connection::open(target.address)?.ask(target.request(Play::Plain, SIZES[0].bytes).next()).with_context(|| way.name())?;
    let idle = process.resident()?;
    let mut ask = target.request(Play::Held, SIZES[0].bytes);
    let mut open = Vec::with_capacity(STREAMS);
    for number in 0..STREAMS {
        let mut connection = Connection::small(target.address)?;
        connection.ask_until_content(ask.next()).with_context(|| format!("{}, stream {number}", way.name()))?;
        open.push(connection);
    }
    #[expect(clippy::cast_precision_loss, reason = "500")]
    let streams = STREAMS as f64;
    Ok((process.resident()? - idle) / streams)
}

/// How far memory rises with the largest body, in that body's size.
fn largest_body(programs: &Programs, way: Way, upstream: SocketAddr) -> anyhow::Result<f64> {
    let target = programs.start(way, upstream)?;
    let process = target.process()?;
    let idle = process.resident()?;
    let mut ask = target.request(Play::Plain, LARGEST);
    // Made before the connection is: a fresh one that stays silent for ten seconds is closed.
    let request = ask.next();
    Connection::open(target.address)?.ask(request).with_context(|| way.name())?;
    #[expect(clippy::cast_precision_loss, reason = "32 MiB")]
    let size = LARGEST as f64;
    Ok((process.peak()? - idle) / size)
}

/// What a hop costs over the spare's own answer: the first request of a fresh process, with the primary broken and with the spare alone.
fn failover(volume: &Volume, programs: &Programs, upstream: &Upstream) -> anyhow::Result<()> {
    let refused = target::free_address()?;
    let cases = [
        ("spare alone", vec![upstream.good]),
        ("refused, then spare", vec![refused, upstream.good]),
        ("500, then spare", vec![upstream.failing, upstream.good]),
    ];
    let mut samples = vec![Vec::new(); cases.len()];
    for _ in 0..volume.hops {
        for ((name, addresses), samples) in cases.iter().zip(&mut samples) {
            let served_by = if addresses.len() > 1 { "b" } else { "a" };
            samples.push(first_answer(programs, addresses, served_by).with_context(|| *name)?);
        }
    }
    let alone = median(&samples[0]);
    let rows: Vec<Vec<String>> = cases
        .iter()
        .zip(&samples)
        .map(|((name, _), samples)| {
            vec![(*name).to_owned(), number(median(samples)), number(quantile(samples, 1.0)), number((median(samples) - alone) / 1000.0)]
        })
        .collect();
    table(
        "Hop (first request of a fresh process, 200 KB, time to first byte)",
        &["case", "p50 µs", "max µs", "+ms over the spare alone"],
        &rows,
    );
    Ok(())
}

fn first_answer(programs: &Programs, upstreams: &[SocketAddr], served_by: &str) -> anyhow::Result<f64> {
    let target = programs.hotspare(upstreams)?;
    let mut connection = Connection::open(target.address)?;
    let timing = connection.ask(target.request(Play::Plain, SIZES[1].bytes).next())?;
    let profile = connection.header("x-hotspare-profile");
    ensure!(profile == Some(served_by), "answered by {profile:?}, not `{served_by}`");
    Ok(micros(timing.first_byte))
}

fn conclude(aims: &[Aim], begun: Instant) {
    println!();
    let mut met = 0;
    for aim in aims {
        let (line, is_met) = aim.judge();
        println!("{line}");
        met += usize::from(is_met);
    }
    println!("bench: {met} of {} aims met, {:.0} s", aims.len(), begun.elapsed().as_secs_f64());
}
