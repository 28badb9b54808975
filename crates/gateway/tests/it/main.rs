//! The data path as clients and providers see it: a raw client on one side, scripted providers on the other, one proxy on a real socket
//! between them. The names of tests begin with the threat they answer (security.md), or the row that they hold of docs/regressions.md.

mod answers;
mod bodies;
mod breaks;
mod bugs;
mod cancel;
mod client;
mod control;
mod credentials;
mod drill;
mod field;
mod fitting;
mod folders;
mod full;
mod good_path;
mod heads;
mod held;
mod hooks;
mod listener;
mod logins;
mod loops;
mod memory;
mod money;
mod paths;
mod providers;
mod proxy;
mod records;
mod reload;
mod remembered;
mod renewal;
mod smuggling;
#[cfg(unix)]
mod spare_logins;
mod streams;
mod upstream_heads;
