//! Looks for secrets in whatever was said or written: any eight characters of one in the clear or percent-encoded, and the like of it in
//! Base64 and hexadecimal.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Bytes of a secret that are one too many to find, in the clear and percent-encoded.
const SLICE: usize = 8;

/// What so much of a secret takes in Base64.
const SLICE_IN_BASE64: usize = 11;

/// And in hexadecimal.
const SLICE_IN_HEX: usize = 16;

/// Everything that was said or written, by where it stands.
#[derive(Default)]
pub(super) struct Heap(pub(super) BTreeMap<String, Vec<u8>>);

impl Heap {
    pub(super) fn put(&mut self, place: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let heap = self.0.entry(place.to_owned()).or_default();
        heap.extend(bytes);
        // Nothing is found over the border of two.
        heap.push(0);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Every secret of which a part stands somewhere, with the place.
    pub(super) fn hits(&self, needles: &Needles) -> BTreeSet<(String, String)> {
        let found = |(place, bytes): (&String, &Vec<u8>)| {
            needles.found(bytes).into_iter().map(|name| (name.to_owned(), place.clone())).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(found).collect()
    }
}

/// The parts of secrets in all their forms, by their length.
#[derive(Default)]
pub(super) struct Needles(BTreeMap<usize, HashMap<Vec<u8>, String>>);

impl Needles {
    /// `secret` is what is random of it.
    pub(super) fn add(&mut self, name: &str, secret: &str) {
        let percent: String = secret
            .bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() || byte == b'-' { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect();
        for form in [secret, &secret.replace('/', "\\/"), &percent, &percent.to_ascii_lowercase()] {
            self.windows(name, form, SLICE);
        }
        for shift in 0..3 {
            let encoded = base64(&[&vec![0; shift], secret.as_bytes()].concat());
            // The ends share their letters with whatever stands beside them.
            let inner = &encoded[4..encoded.len() - 4];
            self.windows(name, inner, SLICE_IN_BASE64);
            self.windows(name, &inner.replace('+', "-").replace('/', "_"), SLICE_IN_BASE64);
        }
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.windows(name, &hex, SLICE_IN_HEX);
        self.windows(name, &hex.to_ascii_uppercase(), SLICE_IN_HEX);
    }

    fn windows(&mut self, name: &str, form: &str, length: usize) {
        let known = self.0.entry(length).or_default();
        known.extend(form.as_bytes().windows(length).map(|window| (window.to_vec(), name.to_owned())));
    }

    pub(super) fn secrets(&self) -> usize {
        self.0.values().flat_map(HashMap::values).collect::<BTreeSet<_>>().len()
    }

    /// The names of the secrets of which a part stands in it.
    pub(super) fn found(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let of_length = |(length, known): (&usize, &HashMap<Vec<u8>, String>)| {
            bytes.windows(*length).filter_map(|window| known.get_key_value(window)).map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        let keys: Vec<Vec<u8>> = self.0.iter().flat_map(of_length).collect();
        keys.iter().filter_map(|key| self.0.get(&key.len())?.get(key).map(String::as_str)).collect()
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = |group: &[u8]| {
        let bits = group.iter().enumerate().fold(0_usize, |bits, (place, byte)| bits | usize::from(*byte) << (16 - 8 * place));
        (0..=group.len()).map(|place| char::from(LETTERS[bits >> (18 - 6 * place) & 63])).collect::<String>()
    };
    bytes.chunks(3).map(letters).collect()
}

#[test]
fn any_eight_characters_of_a_secret_are_found_in_every_form() {
    let secret = "Zq8+vN3/xW1kR7sT5uY2mB4c";
    let mut needles = Needles::default();
    needles.add("planted", secret);
    needles.add("other", "hJ6gF0dS9aP/lK+oI3uQ8wE2");
    let hex: String = secret[8..16].bytes().map(|byte| format!("{byte:02x}")).collect();
    for (form, text) in [
        ("plain", format!("x {secret} x")),
        ("its beginning", secret[..8].to_owned()),
        ("its end", secret[16..].to_owned()),
        ("URL", "key=Zq8%2BvN3%2FxW1k&".to_owned()),
        ("JSON", r#"{"key":"+vN3\/xW1k"}"#.to_owned()),
        ("Base64", base64(format!("user:{secret}@").as_bytes())),
        ("Base64, moved", base64(format!("users:{secret}@").as_bytes())),
        ("Base64, moved again", base64(format!("{secret} and more").as_bytes())),
        ("Base64 of URLs", base64(secret.as_bytes()).replace('+', "-").replace('/', "_")),
        ("hexadecimal", hex.clone()),
        ("hexadecimal in capitals", hex.to_ascii_uppercase()),
    ] {
        let mut heap = Heap::default();
        heap.put("here", text);
        assert_eq!(heap.hits(&needles), BTreeSet::from([("planted".to_owned(), "here".to_owned())]), "{form}");
    }
    let mut heap = Heap::default();
    heap.put("here", &secret[..7]);
    heap.put("here", &secret[7..14]);
    assert!(heap.hits(&needles).is_empty(), "seven characters tell nothing");
}
