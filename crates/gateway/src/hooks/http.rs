//! Posts what happened to an address and reads its answer. Never follows a redirect, never sends a credential, and never joins URLs.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hotspare_config::BaseUrl;
use hotspare_core::{Clocks, Platform};
use hotspare_upstream::{ClientCredential, Credential, Outgoing, Target, Upstreams};
use http::{Extensions, HeaderMap, HeaderValue, Method, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};

use super::{Called, Ending, OUTPUT_CAP};

/// Posts it. Whoever calls limits the time.
pub(super) async fn post(addresses: &Upstreams<Full<Bytes>>, url: &BaseUrl, input: Bytes) -> Called {
    // A connection of its own: hooks are rare, and a kept one may be dead.
    match addresses.send(&target(url), outgoing(url, input), &Clocks::default(), true).await {
        Ok(response) => {
            let status = response.status().as_u16();
            read(status, response.into_body()).await
        }
        Err(failure) => Called::ended(Ending::Failed(format!("could not be reached: {failure}"))),
    }
}

fn target(url: &BaseUrl) -> Target {
    Target {
        name: "hook".into(),
        platform: Platform::Anthropic,
        https: url.https,
        host: url.host.clone(),
        port: url.port,
        prefix: url.prefix.clone(),
        credential: Arc::new(Credential::None),
    }
}

fn outgoing(url: &BaseUrl, input: Bytes) -> Outgoing<'static, Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("hotspare/", env!("CARGO_PKG_VERSION"))));
    Outgoing {
        method: Method::POST,
        path_and_query: if url.prefix.is_empty() { "/".to_owned() } else { String::new() },
        headers: Cow::Owned(headers),
        extensions: Extensions::new(),
        client_credential: ClientCredential::default(),
        length: Some(input.len() as u64),
        body: Full::new(input),
        read_answer: true,
    }
}

async fn read(status: u16, mut body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin) -> Called {
    let mut output = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => output.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Err(error) => return Called::ended(Ending::Failed(format!("broke off its answer: {error}"))),
        }
        if output.len() > OUTPUT_CAP {
            return Called::ended(Ending::Flooded);
        }
    }
    Called { output: output.to_vec(), ..Called::ended(Ending::Answered(status)) }
}
