//! Holds what the authority may sign, as two verifiers see it: rustls, and the `openssl` command where it is there (it is in CI).

use std::path::Path;
use std::process::Command;

use secrecy::ExposeSecret;

use super::*;

fn at(days: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs((20_800 + days) * DAY)
}

/// Whether a client that trusts the authority takes this certificate for this name.
fn takes(authority: &Authority, leaf: &CertifiedKey, name: &str, now: SystemTime) -> Result<(), rustls::Error> {
    authority.vouches(leaf, name, now)
}

#[test]
fn t20_an_authority_knows_whether_it_is_constrained_and_how_long_it_holds() {
    let authority = Authority::make(at(0)).unwrap();
    assert!(authority.is_constrained(at(1)));
    assert_eq!(authority.left(at(300)), Duration::from_secs(65 * DAY));
    let mut params = authority_params(0, seconds(at(1000)));
    params.name_constraints = None;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (pem, certificate) = (certificate.pem(), certificate.der().clone());
    let open = Authority { key, certificate, pem, not_before: 0, not_after: seconds(at(1000)) };
    assert!(!open.is_constrained(at(1)), "without a constraint it vouches for every name");
}

#[test]
fn a_certificate_holds_for_the_host_for_a_day_and_for_nothing_else() {
    let authority = Authority::make(at(0)).unwrap();
    let leaf = authority.issue(at(10)).unwrap();
    takes(&authority, &leaf, HOST, at(10)).unwrap();
    takes(&authority, &leaf, HOST, at(10) - BACKDATED).unwrap();
    assert!(takes(&authority, &leaf, HOST, at(12)).is_err(), "it has run out");
    assert!(takes(&authority, &leaf, HOST, at(9)).is_err(), "it is not valid yet");
    assert!(takes(&authority, &leaf, "example.com", at(10)).is_err());
    let stranger = Authority::make(at(0)).unwrap();
    assert!(takes(&stranger, &leaf, HOST, at(10)).is_err(), "another machine's authority does not vouch for it");
}

#[test]
fn t20_what_the_key_signs_for_other_names_is_refused() {
    let authority = Authority::make(at(0)).unwrap();
    for name in ["example.com", "anthropic.com", "platform.claude.com", "evil-api.anthropic.com", "10.0.0.1", "::1"] {
        let leaf = authority.issue_for(name, at(0)).unwrap();
        let outcome = takes(&authority, &leaf, name, at(0));
        assert!(
            matches!(&outcome, Err(rustls::Error::InvalidCertificate(error)) if format!("{error:?}").contains("NameConstraint")),
            "{name}: {outcome:?}"
        );
    }
}

#[test]
fn what_is_kept_is_read_again_and_signs_as_before() {
    let authority = Authority::make(at(0)).unwrap();
    let text = authority.to_text();
    let again = Authority::from_text(text.expose_secret()).unwrap();
    assert_eq!(authority.certificate_pem(), again.certificate_pem());
    takes(&authority, &again.issue(at(5)).unwrap(), HOST, at(5)).unwrap();
    assert!(!format!("{authority:?} {text:?}").contains("PRIVATE"), "a key is never shown");
}

#[test]
fn what_is_damaged_or_mixed_is_refused_with_a_reason() {
    let (one, other) = (Authority::make(at(0)).unwrap(), Authority::make(at(0)).unwrap());
    let json = |authority: &Authority| serde_json::from_str::<serde_json::Value>(authority.to_text().expose_secret()).unwrap();
    let mut mixed = json(&one);
    mixed["key"] = json(&other)["key"].clone();
    let mut unknown = json(&one);
    unknown["version"] = 2.into();
    let mut no_pem = json(&one);
    no_pem["certificate"] = "-----BEGIN".into();
    for text in [mixed.to_string(), unknown.to_string(), no_pem.to_string(), String::new(), "{}".to_owned()] {
        let error = Authority::from_text(&text).unwrap_err().to_string();
        assert!(!error.contains("PRIVATE") && error.len() > 10, "{error}");
    }
}

#[test]
fn an_authority_is_replaced_well_before_it_ends_and_when_it_is_not_valid_yet() {
    let authority = Authority::make(at(0)).unwrap();
    assert!(authority.is_good(at(0)) && authority.is_good(at(300)));
    assert!(!authority.is_good(at(306)));
    assert!(!authority.is_good(at(0) - Duration::from_secs(7200)));
    assert!(authority.may_sign(at(362)) && !authority.may_sign(at(363)));
    takes(&authority, &authority.issue(at(362)).unwrap(), HOST, at(363) - BACKDATED).unwrap();
    // An odd clock is no reason to fall over.
    Authority::make(UNIX_EPOCH).unwrap();
}

/// What `openssl` prints, with what it complains of.
fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("the `openssl` command is there");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[test]
fn t20_openssl_sees_the_same_constraints() {
    let now = SystemTime::now();
    let authority = Authority::make(now).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.certificate_pem()).unwrap();
    let text = openssl(folder.path(), &["x509", "-in", "ca.pem", "-noout", "-text"]);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (above, below) in [
        ("X509v3 Basic Constraints: critical", "CA:TRUE, pathlen:0"),
        ("X509v3 Name Constraints: critical", "Permitted:"),
        ("Permitted:", "DNS:api.anthropic.com"),
        ("Excluded:", "IP:0.0.0.0/0.0.0.0"),
        ("X509v3 Key Usage: critical", "Certificate Sign, CRL Sign"),
        ("X509v3 Extended Key Usage:", "TLS Web Server Authentication"),
    ] {
        assert!(lines.windows(2).any(|pair| pair == [above, below]), "{above} / {below} is not in:\n{text}");
    }
    for (name, expected) in
        [(HOST, "leaf.pem: OK"), ("example.com", "permitted subtree violation"), ("10.0.0.1", "excluded subtree violation")]
    {
        let leaf = authority.issue_for(name, now).unwrap();
        std::fs::write(folder.path().join("leaf.pem"), pem(&leaf.cert[0])).unwrap();
        let outcome = openssl(folder.path(), &["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "leaf.pem"]);
        assert!(outcome.contains(expected), "{name}: {outcome}");
    }
}

/// Both have one name: a client tells them by their keys. Claude Code does (measured, 2.1.330).
#[test]
fn a_client_that_trusts_an_authority_and_its_successor_takes_what_either_signs() {
    let now = SystemTime::now();
    let (first, second) = (Authority::make(now - Duration::from_secs(320 * DAY)).unwrap(), Authority::make(now).unwrap());
    let folder = tempfile::tempdir().unwrap();
    for both in [[&first, &second], [&second, &first]] {
        std::fs::write(folder.path().join("ca.pem"), both.map(Authority::certificate_pem).concat()).unwrap();
        for authority in [&first, &second] {
            let leaf = authority.issue(now).unwrap();
            std::fs::write(folder.path().join("leaf.pem"), pem(&leaf.cert[0])).unwrap();
            let outcome = openssl(folder.path(), &["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "leaf.pem"]);
            assert!(outcome.contains("leaf.pem: OK"), "{outcome}");
        }
    }
}
