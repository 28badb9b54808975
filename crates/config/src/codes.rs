//! Lists every diagnostic code with its meaning and its cure, one line each. Never builds a diagnostic: that is for whoever finds the fault.
//!
//! A code is stable: it is never given to another fault, also when its own fault can no longer happen.

/// A diagnostic's code and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// As printed, e.g. `HS0103`.
    pub id: &'static str,
    /// One line for people.
    pub meaning: &'static str,
    /// What to do about it, in one line.
    pub cure: &'static str,
}

macro_rules! codes {
    ($($name:ident = $id:literal, $meaning:literal $(, $cure:literal)?;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: Code = Code { id: $id, meaning: $meaning, cure: concat!($($cure)?) };
        )*

        /// Every code, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    // The file itself.
    UNREADABLE = "HS0001", "the configuration file cannot be read",
        "look at its owner and mode: `ls -l` on the file that the message names";
    NOT_UTF8 = "HS0002", "the configuration file is not UTF-8 text",
        "save it as UTF-8";
    BYTE_ORDER_MARK = "HS0003", "the configuration file starts with a byte order mark",
        "save it without a byte order mark (UTF-8, not \"UTF-8 with BOM\")";
    EMPTY = "HS0004", "the configuration file is empty",
        "write `{}` into it, or remove it";
    SYNTAX = "HS0005", "the text is not JSON (comments and trailing commas are allowed)",
        "mend the line that the message draws; quotes, commas and brackets are the usual culprits";
    DUPLICATE_KEY = "HS0006", "a key is given twice in one object",
        "keep one of the two";
    TOO_DEEP = "HS0007", "objects and lists are nested too deeply",
        "write it flatter: nothing of the format is nested so deeply";
    TOO_LARGE = "HS0008", "the configuration file is larger than 1 MiB",
        "cut it down: nothing of the format needs so much";
    CLAUDE_SETTINGS_UNUSABLE = "HS0009", "Claude Code's settings file cannot be read, so a `failover_policy` in it has no effect",
        "mend Claude Code's settings file, or put `failover_policy` into hotspare's own";
    NO_HOME = "HS0010", "no home folder is known, so no configuration can be found",
        "set `HOME` to your home folder";

    // Keys and values.
    UNKNOWN_KEY = "HS0101", "no such key exists here",
        "take the key that the message suggests; `hotspare config explain KEY` says what one does";
    NO_PROFILES = "HS0102", "the policy names profiles, but none is defined",
        "define them under `profiles`";
    UNKNOWN_PROFILE = "HS0103", "no profile has this name",
        "take the name that the message suggests, or define the profile";
    WRONG_TYPE = "HS0104", "the value is of the wrong kind",
        "write the kind of value that the message asks for";
    MISSING_KEY = "HS0105", "a required key is missing",
        "add the key";
    UNKNOWN_WORD = "HS0106", "the value is none of the allowed words",
        "take one of the words that the message lists";
    OUT_OF_RANGE = "HS0107", "the number is outside the allowed range",
        "take a number from the range that the message gives";
    LISTED_TWICE = "HS0108", "a profile is listed twice where once is meant",
        "name each profile once; a second entry with another `model` is allowed in `chains`";
    BAD_NAME = "HS0109", "the name has a form that is not allowed",
        "begin with a letter or digit, then letters, digits, `.`, `_` and `-`, 60 characters at most";
    EMPTY_VALUE = "HS0110", "the value is empty where something is needed",
        "write what the message asks for, or remove the key";
    NO_POLICY = "HS0111", "profiles are defined, but no policy uses them",
        "add `failover_policy` with `primary_profile` and `secondary_profile`";
    PRESET_ELSEWHERE = "HS0112", "the preset does not go with the platform",
        "take the preset's own platform, or leave `preset` out";

    // In the published format, not in this version.
    KEY_NOT_YET = "HS0201", "this version does not carry the key out yet",
        "remove the key; a limit that nobody keeps would be a lie";
    VALUE_NOT_YET = "HS0202", "this version does not carry the value out yet",
        "take another of the allowed values";

    // Addresses.
    BAD_URL = "HS0301", "the base URL has a form that is not allowed",
        "write `https://HOST`, with a port and a path where needed, and nothing else";
    PLAIN_HTTP = "HS0302", "plain http is used beyond this machine",
        "use https, or say `\"allow_http\": true` where you trust the network";
    OWN_LISTENER = "HS0303", "the base URL is hotspare's own listener",
        "name the provider's own address: this one would go in circles";
    DENIED_ADDRESS = "HS0304", "no provider can be at this address",
        "name the provider's own address; link-local and metadata addresses are refused";
    URL_ENDS_IN_V1 = "HS0305", "the base URL ends in `/v1`, which hotspare adds itself",
        "leave `/v1` away";
    BAD_LISTEN = "HS0306", "the listener's address is not usable",
        "use a loopback address with a port, such as `127.0.0.1:4117`";

    // Credentials.
    AUTH_NOT_ONE = "HS0401", "a profile's credential must come from exactly one place",
        "keep one of `client`, `env`, `file`, `command`, `keychain`, `claude_config_dir`, `value`";
    AUTH_MISSING = "HS0402", "the profile does not say where its credential comes from",
        "add `auth`, for example `{ \"env\": \"MY_KEY\" }`";
    CLIENT_LOGIN_ABROAD = "HS0403", "the client's own login may reach only its own provider",
        "give the profile a credential of its own";
    BAD_ENV_NAME = "HS0404", "this cannot be the name of an environment variable",
        "name the variable, not the key itself";
    BAD_PATH = "HS0405", "the path is neither absolute nor below `~`",
        "write it from `/` or from `~/` on";
    AUTH_IN_FILE = "HS0406", "a credential stands in the configuration file itself",
        "keep it in a variable, a 0600 file or a password manager: `env`, `file`, `command`";
    CLIENT_LOGIN_VIA_GATEWAY = "HS0407", "a login is sent to a gateway",
        "say that it is meant: `\"auth\": \"client\"`; the gateway can read the login";
    LOGIN_OF_A_FOLDER = "HS0408", "the login that Claude Code keeps in a folder is used by hotspare",
        "nothing, if you mean it: mind the provider's terms for a login that is used so";
    RENEW_WITHOUT_FOLDER = "HS0409", "`renew` stands beside a credential that is not the login of a folder",
        "remove `renew`: only the login of a folder of Claude Code's is renewed";

    // Units.
    BAD_DURATION = "HS0501", "the text is not a duration in the allowed range",
        "write a whole number and a unit: `250ms`, `5s`, `2m`, `1h`";
    BAD_SIZE = "HS0502", "the text is not a size in the allowed range",
        "write a whole number and a unit: `512KiB`, `32MiB`";

    // Triggers.
    BAD_TRIGGER = "HS0601", "the value is not a trigger",
        "write a status (`529`), a class (`5xx`) or one of the names that the message lists";
    NO_OVERLOAD = "HS0602", "the triggers leave out 529, the overload status",
        "add 529, or `overloaded`: it is what an overloaded Anthropic answers";
    IDLE_TRIGGER = "HS0603", "the trigger never starts a failover",
        "remove it: such an answer is never carried on";

    // Chains and maps.
    UNREACHABLE = "HS0701", "an earlier entry always matches first",
        "put the narrower one first, or remove it";
    NOBODY_LEFT = "HS0702", "every profile that could be asked is dropped",
        "take a `null` away, or name another profile in the chain";
    NO_MODELS = "HS0703", "the provider has models of its own, and none is mapped",
        "map the models, for example `\"models\": { \"*\": \"the-model\" }`";

    BUDGET_WITHOUT_PRICE = "HS0704", "a budget in money cannot be kept, or has nothing to keep",
        "set the limit at the provider, and remove the budget here";

    // Layers and trust.
    NOT_TRUSTED = "HS0801", "a project file that is not trusted may only narrow what the user has",
        "`hotspare trust` in the project, after a look at the file";
    NOT_A_PLAIN_FILE = "HS0802", "a project file is a symbolic link, a device or a pipe, and is not read",
        "put a plain file in its place";
    FOREIGN_FILE = "HS0803", "a project file belongs to another user, and is not read",
        "make the file yours, or remove it";
    TRUST_RECORD = "HS0804", "a record of trust could have been written by others, and does not count",
        "`hotspare trust` again: the record must be a file that only you can write";
    LOCKED = "HS0805", "the key is locked by the managed configuration",
        "ask whoever administers this machine";
    LOCK_ELSEWHERE = "HS0806", "only the managed configuration may lock keys",
        "remove `locked` here";
    NO_SUCH_KEY = "HS0807", "no key of the format has this path",
        "take the key that the message suggests; `hotspare config show` lists all";
    NOT_APPENDABLE = "HS0808", "`+key` appends to a list, and this is none",
        "write the key without `+`";
    BAD_ASSIGNMENT = "HS0809", "the text is not of the form `key=value`",
        "write `--set key=value`";
    SECRET_IN_ARGUMENT = "HS0810", "a credential stands on the command line, where others can read it",
        "keep it in a variable or a file, and name that";

    // Hooks.
    BAD_MATCHER = "HS0901", "the matcher names a failure that does not exist",
        "write names of failures with `|` between them; the message lists them";
    IDLE_MATCHER = "HS0902", "the matcher can never match, since the event comes without a failure",
        "remove the matcher";
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
    fn every_code_says_what_to_do() {
        let silent: Vec<_> = ALL.iter().filter(|code| code.cure.is_empty()).map(|code| code.id).collect();
        assert_eq!(silent, Vec::<&str>::new(), "a third text in the list above says it");
    }

    #[test]
    fn a_code_can_be_looked_up() {
        assert_eq!(meaning("HS0103"), Some("no profile has this name"));
        assert_eq!(meaning("HS9999"), None);
    }
}
