//! Talks to providers: connections, TLS, credentials. Never decides what a failure means, and never lets a credential leave its origin.

pub mod auth;
mod claude;
pub mod clock;
pub mod connect;
mod descriptors;
pub mod dial;
pub mod headers;
pub mod pool;
pub mod probe;
pub mod proxy;
pub mod send;
pub mod tls;

pub use auth::claude_dir::{ClaudeAuth, ClaudeFolder, describe as describe_claude_folder};
pub use auth::keychain::{Keychain, Looked, Place};
pub use auth::renewal::{NotRenewed, Renewals, Renewed};
pub use auth::{Credential, CredentialError, Fingerprint, HeaderForm, Limits, Presence, Source, login_command};
pub use claude::ClaudeClient;
pub use headers::ClientCredential;
pub use send::{Connected, LoginRenewed, Outgoing, Received, Target, UpstreamBody, Upstreams};
