//! Secrets that are recognised wherever they turn up, and the search for them in whatever was said or written: any eight characters of one
//! in the clear or percent-encoded, and the like of it in Base64 and hexadecimal. What nobody can know before is found by its shape.
//! Never decides where a secret may stand: that is the tests' own business.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// Bytes of a secret that are one too many to find, in the clear and percent-encoded.
const SLICE: usize = 8;

/// What so much of a secret takes in Base64.
const SLICE_IN_BASE64: usize = 11;

/// And in hexadecimal.
const SLICE_IN_HEX: usize = 16;

/// Letters of a secret.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How long the random part of a secret is.
const LENGTH: usize = 32;

/// Hexadecimal digits of a local token, behind `hs-`.
const TOKEN_DIGITS: usize = 64;

/// A secret of this name, the same for the same seed; `+` and `/` look different in each encoding.
pub fn random(name: &str, seed: u64) -> String {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(LETTERS[(state >> 58) as usize % LETTERS.len()])
    };
    (0..LENGTH).map(letter).collect()
}

/// Everything that was said or written, by where it stands.
#[derive(Debug, Default)]
pub struct Heap(pub BTreeMap<String, Vec<u8>>);

impl Heap {
    /// What stands here, behind what stood here before.
    pub fn put(&mut self, place: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let heap = self.0.entry(place.to_owned()).or_default();
        heap.extend(bytes);
        // Nothing is found over the border of two.
        heap.push(0);
    }

    /// How much there is to search.
    pub fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Every secret of which a part stands somewhere, with the place.
    pub fn hits(&self, needles: &Needles) -> BTreeSet<(String, String)> {
        let mut hits = BTreeSet::new();
        for (place, bytes) in &self.0 {
            let names = needles.found(bytes).into_iter().chain(shapes(bytes));
            hits.extend(names.map(|name| (name.to_owned(), place.clone())));
        }
        hits
    }
}

/// The parts of secrets in all their forms, by their length.
#[derive(Debug)]
pub struct Needles {
    by_length: BTreeMap<usize, HashMap<Vec<u8>, String>>,
    /// Whether a part begins with these two bytes: most places are left with one look.
    begins: Vec<bool>,
}

impl Default for Needles {
    fn default() -> Self {
        Self { by_length: BTreeMap::new(), begins: vec![false; 1 << 16] }
    }
}

impl Needles {
    /// `secret` is what is random of it.
    pub fn add(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        let percent = percent_encoded(secret);
        self.windows(name, secret, SLICE);
        for form in [String::from_utf8_lossy(secret).replace('/', "\\/"), percent.to_ascii_lowercase(), percent] {
            self.windows(name, form.as_bytes(), SLICE);
        }
        for shift in 0..3 {
            let encoded = BASE64_STANDARD.encode([&vec![0; shift], secret].concat());
            // The ends share their letters with whatever stands beside them.
            let inner = &encoded[4..encoded.len() - 4];
            self.windows(name, inner.as_bytes(), SLICE_IN_BASE64);
            self.windows(name, &inner.replace('+', "-").replace('/', "_").into_bytes(), SLICE_IN_BASE64);
        }
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.windows(name, hex.as_bytes(), SLICE_IN_HEX);
        self.windows(name, hex.to_ascii_uppercase().as_bytes(), SLICE_IN_HEX);
    }

    fn windows(&mut self, name: &str, form: &[u8], length: usize) {
        for window in form.windows(length) {
            self.begins[beginning(window)] = true;
            self.by_length.entry(length).or_default().insert(window.to_vec(), name.to_owned());
        }
    }

    /// How many there are.
    pub fn secrets(&self) -> usize {
        self.by_length.values().flat_map(HashMap::values).collect::<BTreeSet<_>>().len()
    }

    /// The names of the secrets of which a part stands in it.
    pub fn found(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for (length, known) in &self.by_length {
            let windows = bytes.windows(*length).filter(|window| self.begins[beginning(window)]);
            names.extend(windows.filter_map(|window| known.get(window).map(String::as_str)));
        }
        names
    }
}

fn beginning(window: &[u8]) -> usize {
    usize::from(window[0]) << 8 | usize::from(window[1])
}

/// As it stands in a URL.
pub fn percent_encoded(secret: impl AsRef<[u8]>) -> String {
    let letter = |byte: &u8| match *byte {
        byte if byte.is_ascii_alphanumeric() || byte == b'-' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    secret.as_ref().iter().map(letter).collect()
}

/// Secrets that hotspare makes itself and keeps in its memory alone: a local token, in the clear and in the Base64 of proxy credentials, and
/// a private key.
fn shapes(bytes: &[u8]) -> Vec<&'static str> {
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    // The second is the beginning of every key of our authority's kind, PKCS #8 on P-256, where it stands without its banner.
    let has_key = holds(b"PRIVATE KEY-----") || holds(b"MIGHAgEAMBMGByqGSM49AgEG");
    let has_token = has_local_token(bytes) || holds(BASE64_STANDARD.encode("hotspare:hs-").as_bytes());
    [has_token.then_some("a local token, by its shape"), has_key.then_some("a private key, by its shape")].into_iter().flatten().collect()
}

/// Whether a local token stands in it: `hs-` and 64 hexadecimal digits.
pub fn has_local_token(bytes: &[u8]) -> bool {
    let is_token = |window: &[u8]| window.strip_prefix(b"hs-").is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    bytes.windows("hs-".len() + TOKEN_DIGITS).any(is_token)
}

#[cfg(test)]
mod tests;
