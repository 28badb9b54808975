//! Decides through which gateway a client goes that has started this process, as its status line or as a hook. Never asks one.

use hotspare_config::Locations;

use crate::claude::OWN_URL;
use crate::state::{self, Instance};

/// What names the client's way to the model, and what comes with it when the way leads through hotspare.
const BASE_URL: &str = "ANTHROPIC_BASE_URL";
const CUSTOM_HEADERS: &str = "ANTHROPIC_CUSTOM_HEADERS";
const TOKEN_HEADER: &str = "x-hotspare-token";
const PROXY: &str = "HTTPS_PROXY";

/// Where a client's requests go.
#[derive(Debug)]
pub(crate) enum Way {
    /// Through this gateway.
    Through(Instance),
    /// They would go through one, and there is none.
    Nowhere,
    /// To another address.
    Elsewhere,
}

impl Way {
    /// Of the client that started this process. It hands its own environment to its status line and its hooks: the address that it uses
    /// stands there.
    pub(crate) fn of_this_process(locations: &Locations) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::choose(state::instances(&locations.state_dir), &variable)
    }

    /// Without an address of its own the client goes to the service, where there is one.
    fn choose(mut instances: Vec<Instance>, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let base_url = variable(BASE_URL).filter(|url| url != OWN_URL);
        let address = base_url.clone().or_else(|| variable(PROXY)).and_then(|url| authority(&url));
        if let Some(at) = instances.iter().position(|instance| address.as_deref() == Some(instance.address.to_string().as_str())) {
            return Self::Through(instances.swap_remove(at));
        }
        let ours = variable(CUSTOM_HEADERS).is_some_and(|headers| headers.to_ascii_lowercase().contains(TOKEN_HEADER));
        match (base_url, ours) {
            (Some(_), false) => Self::Elsewhere,
            (Some(_), true) => Self::Nowhere,
            (None, _) => instances.into_iter().find(Instance::serves_all).map_or(Self::Nowhere, Self::Through),
        }
    }
}

/// `127.0.0.1:4117` of `http://user:secret@127.0.0.1:4117/path`.
fn authority(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let authority = uri.authority()?.as_str();
    let address = authority.rsplit('@').next()?;
    Some(address.replace("localhost:", "127.0.0.1:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(kind: &str, port: u16) -> Instance {
        Instance { version: 1, pid: 1, kind: kind.to_owned(), address: ([127, 0, 0, 1], port).into(), token: String::new(), started: None }
    }

    #[test]
    fn the_client_s_own_way_decides_which_gateway_is_asked() {
        let all = || vec![instance("run", 5001), instance("serve", 4117), instance("run", 5002)];
        let asked = |instances: Vec<Instance>, variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            match Way::choose(instances, &variable) {
                Way::Through(instance) => instance.address.port().to_string(),
                Way::Nowhere => "nowhere".to_owned(),
                Way::Elsewhere => "elsewhere".to_owned(),
            }
        };
        let token = (CUSTOM_HEADERS, "X-Own: 1\nX-Hotspare-Token: hs-test");
        assert_eq!(asked(all(), &[(BASE_URL, "http://127.0.0.1:5002"), token]), "5002");
        assert_eq!(asked(all(), &[(BASE_URL, "http://localhost:5002/"), token]), "5002");
        assert_eq!(asked(all(), &[(PROXY, "http://hotspare:secret@127.0.0.1:5001")]), "5001");
        let own = (BASE_URL, "https://api.anthropic.com");
        assert_eq!(asked(all(), &[own, (PROXY, "http://hotspare:secret@127.0.0.1:5001")]), "5001");
        assert_eq!(asked(all(), &[]), "4117");
        assert_eq!(asked(all(), &[(BASE_URL, "http://127.0.0.1:6000"), token]), "nowhere");
        assert_eq!(asked(all(), &[(BASE_URL, "https://gateway.example.com")]), "elsewhere");
        assert_eq!(asked(vec![instance("run", 5001)], &[]), "nowhere", "another session's gateway is not this one's");
    }
}
