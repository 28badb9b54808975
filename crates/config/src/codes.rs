//! Lists every diagnostic code with its meaning in one line. Never builds a diagnostic: that is for whoever finds the fault.
//!
//! A code is stable: it is never given to another fault, also when its own fault can no longer happen.

/// A diagnostic's code and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// As printed, e.g. `HS0103`.
    pub id: &'static str,
    /// One line for people.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($name:ident = $id:literal, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: Code = Code { id: $id, meaning: $meaning };
        )*

        /// Every code, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    // The file itself.
    UNREADABLE = "HS0001", "the configuration file cannot be read";
    NOT_UTF8 = "HS0002", "the configuration file is not UTF-8 text";
    BYTE_ORDER_MARK = "HS0003", "the configuration file starts with a byte order mark";
    EMPTY = "HS0004", "the configuration file is empty";
    SYNTAX = "HS0005", "the text is not JSON (comments and trailing commas are allowed)";
    DUPLICATE_KEY = "HS0006", "a key is given twice in one object";
    TOO_DEEP = "HS0007", "objects and lists are nested too deeply";
    TOO_LARGE = "HS0008", "the configuration file is larger than 1 MiB";
    CLAUDE_SETTINGS_UNUSABLE = "HS0009", "Claude Code's settings file cannot be read, so a `failover_policy` in it has no effect";
    NO_HOME = "HS0010", "no home folder is known, so no configuration can be found";

    // Keys and values.
    UNKNOWN_KEY = "HS0101", "no such key exists here";
    NO_PROFILES = "HS0102", "the policy names profiles, but none is defined";
    UNKNOWN_PROFILE = "HS0103", "no profile has this name";
    WRONG_TYPE = "HS0104", "the value is of the wrong kind";
    MISSING_KEY = "HS0105", "a required key is missing";
    UNKNOWN_WORD = "HS0106", "the value is none of the allowed words";
    OUT_OF_RANGE = "HS0107", "the number is outside the allowed range";
    LISTED_TWICE = "HS0108", "a profile is listed twice where once is meant";
    BAD_NAME = "HS0109", "the name has a form that is not allowed";
    EMPTY_VALUE = "HS0110", "the value is empty where something is needed";
    NO_POLICY = "HS0111", "profiles are defined, but no policy uses them";
    PRESET_ELSEWHERE = "HS0112", "the preset does not go with the platform";

    // In the published format, not in this version.
    KEY_NOT_YET = "HS0201", "this version does not carry the key out yet";
    VALUE_NOT_YET = "HS0202", "this version does not carry the value out yet";

    // Addresses.
    BAD_URL = "HS0301", "the base URL has a form that is not allowed";
    PLAIN_HTTP = "HS0302", "plain http is used beyond this machine";
    OWN_LISTENER = "HS0303", "the base URL is hotspare's own listener";
    DENIED_ADDRESS = "HS0304", "no provider can be at this address";
    URL_ENDS_IN_V1 = "HS0305", "the base URL ends in `/v1`, which hotspare adds itself";
    BAD_LISTEN = "HS0306", "the listener's address is not usable";

    // Credentials.
    AUTH_NOT_ONE = "HS0401", "a profile's credential must come from exactly one place";
    AUTH_MISSING = "HS0402", "the profile does not say where its credential comes from";
    CLIENT_LOGIN_ABROAD = "HS0403", "the client's own login may reach only its own provider";
    BAD_ENV_NAME = "HS0404", "this cannot be the name of an environment variable";
    BAD_PATH = "HS0405", "the path is neither absolute nor below `~`";
    AUTH_IN_FILE = "HS0406", "a credential stands in the configuration file itself";
    CLIENT_LOGIN_VIA_GATEWAY = "HS0407", "a login is sent to a gateway";
    LOGIN_OF_A_FOLDER = "HS0408", "the login that Claude Code keeps in a folder is used by hotspare";

    // Units.
    BAD_DURATION = "HS0501", "the text is not a duration in the allowed range";
    BAD_SIZE = "HS0502", "the text is not a size in the allowed range";

    // Triggers.
    BAD_TRIGGER = "HS0601", "the value is not a trigger";
    NO_OVERLOAD = "HS0602", "the triggers leave out 529, the overload status";
    IDLE_TRIGGER = "HS0603", "the trigger never starts a failover";

    // Chains and maps.
    UNREACHABLE = "HS0701", "an earlier entry always matches first";
    NOBODY_LEFT = "HS0702", "every profile that could be asked is dropped";
    NO_MODELS = "HS0703", "the provider has models of its own, and none is mapped";

    // Layers and trust.
    NOT_TRUSTED = "HS0801", "a project file that is not trusted may only narrow what the user has";
    NOT_A_PLAIN_FILE = "HS0802", "a project file is a symbolic link, a device or a pipe, and is not read";
    FOREIGN_FILE = "HS0803", "a project file belongs to another user, and is not read";
    TRUST_RECORD = "HS0804", "a record of trust could have been written by others, and does not count";
    LOCKED = "HS0805", "the key is locked by the managed configuration";
    LOCK_ELSEWHERE = "HS0806", "only the managed configuration may lock keys";
    NO_SUCH_KEY = "HS0807", "no key of the format has this path";
    NOT_APPENDABLE = "HS0808", "`+key` appends to a list, and this is none";
    BAD_ASSIGNMENT = "HS0809", "the text is not of the form `key=value`";
    SECRET_IN_ARGUMENT = "HS0810", "a credential stands on the command line, where others can read it";
}

/// What a code means, if there is such a code.
pub fn meaning(id: &str) -> Option<&'static str> {
    ALL.iter().find(|code| code.id == id).map(|code| code.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_given_once_and_in_order() {
        let ids: Vec<_> = ALL.iter().map(|code| code.id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
    }

    #[test]
    fn a_code_can_be_looked_up() {
        assert_eq!(meaning("HS0103"), Some("no profile has this name"));
        assert_eq!(meaning("HS9999"), None);
    }
}
