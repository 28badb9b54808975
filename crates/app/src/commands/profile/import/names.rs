//! Names of profiles and keychain entries, made of what people called theirs: always valid, always the same for the same name.

/// Longest name that is made; a number may follow. A profile's name may have 60 characters.
const MAX_LENGTH: usize = 50;

/// Letters of European languages beyond ASCII, and what they are written as without accents.
const LETTERS: [(&str, &str); 24] = [
    ("àáâãåāąă", "a"),
    ("äæ", "ae"),
    ("çćč", "c"),
    ("ðďđ", "d"),
    ("èéêëēęě", "e"),
    ("ğ", "g"),
    ("ìíîïīıį", "i"),
    ("łĺľ", "l"),
    ("ñńň", "n"),
    ("òóôõøō", "o"),
    ("öœ", "oe"),
    ("ŕř", "r"),
    ("śšş", "s"),
    ("ß", "ss"),
    ("ţťþ", "t"),
    ("ùúûūůų", "u"),
    ("ü", "ue"),
    ("ýÿ", "y"),
    ("źżž", "z"),
    ("ÀÁÂÃÅ", "a"),
    ("ÄÆ", "ae"),
    ("ÈÉÊË", "e"),
    ("ÖŒ", "oe"),
    ("Ü", "ue"),
];

/// A profile's name made of a person's; `fallback` (a host) stands in where nothing of it can be written in ASCII.
pub(super) fn plain(name: &str, fallback: &str) -> String {
    let slug = slug(name);
    if slug.bytes().any(|byte| byte.is_ascii_alphanumeric()) && !is_shadow(name, &slug) {
        return slug;
    }
    // `open.bigmodel.cn`: the part before the public suffix says most.
    let labels: Vec<&str> = fallback.split('.').collect();
    let label = match labels.as_slice() {
        [.., label, _] if !fallback.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => label,
        _ => fallback,
    };
    match self::slug(label) {
        label if label.is_empty() => {
            if slug.is_empty() {
                "imported".to_owned()
            } else {
                slug
            }
        }
        label => {
            if slug.is_empty() || label.contains(&slug) {
                label
            } else {
                format!("{label}-{slug}")
            }
        }
    }
}

/// Whether most of a name is lost in ASCII, so that what is left says little.
fn is_shadow(name: &str, slug: &str) -> bool {
    let letters = name.chars().filter(|char| char.is_alphanumeric()).count();
    let kept = slug.bytes().filter(u8::is_ascii_alphanumeric).count();
    kept < 3 && kept < letters
}

fn slug(name: &str) -> String {
    let mut slug = String::new();
    for char in name.chars() {
        if char.is_ascii_alphanumeric() || "._".contains(char) {
            slug.push(char.to_ascii_lowercase());
        } else if let Some((_, plain)) = LETTERS.iter().find(|(letters, _)| letters.contains(char)) {
            slug.push_str(plain);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let kept: String = slug.trim_matches(['-', '.', '_']).chars().take(MAX_LENGTH).collect();
    kept.trim_end_matches(['-', '.', '_']).to_owned()
}

/// The first of `base`, `base-2`, … that is free.
pub(super) fn free(base: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(base) {
        return base.to_owned();
    }
    let mut number = 2_u32;
    loop {
        let name = format!("{base}-{number}");
        if !is_taken(&name) {
            return name;
        }
        number += 1;
    }
}

/// Whether a name is a base, or a base with a number.
pub(super) fn is_of(base: &str, name: &str) -> bool {
    let rest = name.strip_prefix(base).map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())) && name.len() != base.len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_say_what_they_can() {
        for (name, host, expected) in [
            ("Mini Max", "api.minimax.io", "mini-max"),
            ("Zürich Ökostrom ß", "x.example", "zuerich-oekostrom-ss"),
            ("智谱 GLM 国内", "open.bigmodel.cn", "glm"),
            ("智谱", "open.bigmodel.cn", "bigmodel"),
            ("公司 A", "gw.corp.example", "corp-a"),
            ("🚀", "127.0.0.1", "127.0.0.1"),
            ("中文", "", "imported"),
            ("x", "gw.example", "x"),
            ("---", "localhost", "localhost"),
            ("../etc", "", "etc"),
        ] {
            assert_eq!(plain(name, host), expected, "{name}");
        }
        assert_eq!(free("a", |name| matches!(name, "a" | "a-2")), "a-3");
        assert!(is_of("glm", "glm") && is_of("glm", "glm-2") && !is_of("glm", "glm-x") && !is_of("glm", "glmx") && !is_of("glm", "glm-"));
    }

    proptest::proptest! {
        #[test]
        fn any_name_becomes_a_valid_one(name in "(?s).{0,80}", host in "(?s).{0,30}|[a-z.]{0,20}") {
            let plain = plain(&name, &host);
            proptest::prop_assert!(plain.starts_with(|c: char| c.is_ascii_alphanumeric()) && plain.len() <= 55, "{plain}");
            proptest::prop_assert!(plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{plain}");
        }
    }
}
