use super::*;

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn hits(text: impl Into<Vec<u8>>, needles: &Needles) -> Vec<String> {
    let mut heap = Heap::default();
    heap.put("here", text);
    heap.hits(needles).into_iter().map(|(name, _)| name).collect()
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
        ("Base64", base64(&format!("user:{secret}@"))),
        ("Base64, moved", base64(&format!("users:{secret}@"))),
        ("Base64, moved again", base64(&format!("{secret} and more"))),
        ("Base64 of URLs", base64(secret).replace('+', "-").replace('/', "_")),
        ("hexadecimal", hex.clone()),
        ("hexadecimal in capitals", hex.to_ascii_uppercase()),
    ] {
        assert_eq!(hits(text, &needles), ["planted"], "{form}");
    }
    let mut heap = Heap::default();
    heap.put("here", &secret[..7]);
    heap.put("here", &secret[7..14]);
    assert!(heap.hits(&needles).is_empty(), "seven characters tell nothing");
}

#[test]
fn what_hotspare_makes_itself_is_found_by_its_shape() {
    let token = format!("hs-{}", "0123456789abcdef".repeat(4));
    let none = Needles::default();
    for text in [format!("x-hotspare-token: {token}"), base64(&format!("hotspare:{token}"))] {
        assert_eq!(hits(text, &none), ["a local token, by its shape"]);
    }
    for text in ["-----BEGIN PRIVATE KEY-----\n", "\"key\":\"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0w"] {
        assert_eq!(hits(text, &none), ["a private key, by its shape"]);
    }
    assert!(hits(&token[..66], &none).is_empty() && hits("-----BEGIN CERTIFICATE-----", &none).is_empty());
}

#[test]
fn secrets_differ_by_name_and_by_run() {
    let all = [random("a", 1), random("a", 2), random("b", 1)];
    assert!(all.iter().all(|secret| secret.len() == LENGTH));
    assert!(all[0] != all[1] && all[0] != all[2] && all[0] == random("a", 1));
}
