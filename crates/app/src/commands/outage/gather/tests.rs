//! Holds how what was found is read; the finding itself is the probe's business, and its tests' in `upstream`.

use std::time::Duration;

use bytes::Bytes;
use hotspare_core::{Failure, Stage};
use hotspare_upstream::probe::{Head, Issuer};
use http::HeaderMap;

use super::*;

fn answered(status: u16, location: Option<&'static str>) -> Probed {
    let mut headers = HeaderMap::new();
    headers.extend(location.map(|location| (header::LOCATION, http::HeaderValue::from_static(location))));
    Probed { answer: Ok(Head { status, headers, body: Bytes::new(), skew_s: Some(0) }), issuer: None, took: Duration::ZERO }
}

fn failed(kind: FailureKind, issuer: Option<&str>) -> Probed {
    let issuer = issuer.map(|name| Issuer { name: name.to_owned(), public: false });
    Probed { answer: Err(Failure::new(kind, Stage::Connect, "words")), issuer, took: Duration::ZERO }
}

#[test]
fn a_login_page_is_whoever_sends_elsewhere() {
    let of = |status, location| portal("api.anthropic.com", &answered(status, location));
    assert_eq!(of(301, Some("https://api.anthropic.com/")), Portal::Clear);
    assert_eq!(of(302, Some("https://www.anthropic.com/")), Portal::Clear);
    assert_eq!(of(302, Some("http://login.hotel.example/?from=api.anthropic.com")), Portal::Found);
    assert_eq!(of(302, Some("http://evilanthropic.com/")), Portal::Found);
    assert_eq!(of(302, Some("/relative")), Portal::Clear);
    assert_eq!(of(511, None), Portal::Found);
    assert_eq!(of(404, None), Portal::Clear);
    assert_eq!(portal("api.anthropic.com", &failed(FailureKind::ConnectTimeout, None)), Portal::Unknown);
}

#[test]
fn silence_before_and_after_the_connection_are_told_apart() {
    assert_eq!(reach(&failed(FailureKind::HeadTimeout, None)), Reach::ConnectTimeout);
    assert_eq!(reach(&failed(FailureKind::HeadTimeout, Some("Example"))), Reach::NoAnswer);
    assert_eq!(reach(&failed(FailureKind::ClosedBeforeHead, None)), Reach::NoAnswer);
    assert_eq!(reach(&failed(FailureKind::TlsCertificate, Some("Example"))), Reach::BadCertificate);
    assert_eq!(reach(&answered(503, None)), Reach::Answered);
}

#[test]
fn one_server_s_clock_is_outvoted() {
    assert_eq!(median(vec![]), None);
    assert_eq!(median(vec![0, 86_400, 1]), Some(1));
    assert_eq!(median(vec![-7200, -7201, -7199]), Some(-7200));
}
