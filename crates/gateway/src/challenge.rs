//! Proves to another process that the local token is known here, without telling it: whoever else has the port cannot (security.md T3).
//! Never answers for another address than the one served, so that nobody can pass a challenge on.

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;

/// The header of a request that asks for a proof: 64 hex digits of chance.
pub const CHALLENGE: &str = "x-hotspare-challenge";

/// The header of the answer.
pub const PROOF: &str = "x-hotspare-proof";

/// Digits of a challenge: 256 bit.
const DIGITS: usize = 64;

/// What only someone who knows the token can say to a challenge at an address.
///
/// # Panics
///
/// Never: HMAC takes a key of any length.
pub fn proof(token: &str, address: SocketAddr, challenge: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("hotspare {address} {challenge}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer to a request's challenge; none where there is no proper one.
pub(crate) fn answer(headers: &HeaderMap, token: &str, address: SocketAddr) -> Option<HeaderValue> {
    let challenge = headers.get(CHALLENGE)?.to_str().ok()?;
    let is_proper = challenge.len() == DIGITS && challenge.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_proper.then(|| HeaderValue::from_str(&proof(token, address, challenge)).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t3_a_proof_is_for_one_token_one_address_and_one_challenge() {
        let (here, there) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let (one, other) = ("0".repeat(DIGITS), "1".repeat(DIGITS));
        let proofs = [proof("hs-a", here, &one), proof("hs-b", here, &one), proof("hs-a", there, &one), proof("hs-a", here, &other)];
        for (at, proof) in proofs.iter().enumerate() {
            assert!(proof.len() == DIGITS && !proofs[..at].contains(proof), "{proofs:?}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(answer(&headers, "hs-a", here), None);
        headers.insert(CHALLENGE, HeaderValue::from_static("short"));
        assert_eq!(answer(&headers, "hs-a", here), None);
        headers.insert(CHALLENGE, HeaderValue::from_str(&one).unwrap());
        assert_eq!(answer(&headers, "hs-a", here).unwrap(), proofs[0].as_str());
    }
}
