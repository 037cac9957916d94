//! What an engine's failure means: try again, refused, or unknown.

use std::future::Future;
use std::time::Duration;

use crate::runtime::{Error, Refusal};

/// Calls, with a limit of its own: a reply that does not come leaves the outcome unknown.
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(classify),
        Err(_) => Err(Error::Unknown(format!("no reply within {} s", limit.as_secs()))),
    }
}

/// Sorts an error of the client: the engine's own refusals by status and text; a connection that was never made is worth another
/// try; one that broke leaves the outcome unknown.
pub fn classify(error: bollard::errors::Error) -> Error {
    use bollard::errors::Error as Bollard;
    if let Bollard::HyperLegacyError { err } = &error
        && err.is_connect()
    {
        return Error::Transient(chain(err));
    }
    if let Bollard::SocketNotFoundError(why) = &error {
        return Error::Transient(format!("no connection: {why}"));
    }
    let text = chain(&error);
    if let Bollard::DockerResponseServerError { status_code, message } = error {
        return refusal(status_code, message);
    }
    if let Bollard::DockerStreamError { error } = error {
        return refusal(500, error);
    }
    Error::Unknown(text)
}

/// Sorts by what the engine says. The texts are Docker's, stable from 20.10 to 28 and checked against both by the contract suite.
fn refusal(status: u16, message: String) -> Error {
    let text = message.to_ascii_lowercase();
    let has = |needle: &str| text.contains(needle);
    let later = ["timeout", "timed out", "deadline exceeded", "connection refused", "connection reset"];
    let reason = if has("no space left on device") {
        Refusal::DiskFull
    } else if has("port is already allocated") || has("address already in use") || (has("failed to bind host port") && !has("permission denied")) {
        Refusal::PortTaken
    } else if has("pool overlaps") || has("overlaps with other one") || has("conflicts with network") {
        Refusal::SubnetTaken
    } else if has("no available ipv4 addresses") {
        Refusal::NetworkFull
    } else if has("no such image") || has("manifest unknown") || has("manifest for") && has("not found") {
        Refusal::NoImage
    } else if has("network") && has("not found") {
        Refusal::NoNetwork
    } else if status == 409 && has("is already in use by container") {
        Refusal::NameConflict
    } else if has("no such container") || has("is marked for removal") || has("removal of container") {
        Refusal::Going
    } else if matches!(status, 409 | 429 | 503) || later.into_iter().any(has) {
        return Error::Transient(message);
    } else {
        Refusal::Other
    };
    Error::Rejected { reason, message }
}

/// An error with all that caused it, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// The status of the engine's reply, for calls whose 304 or 404 means done.
pub fn status(error: &bollard::errors::Error) -> Option<u16> {
    if let bollard::errors::Error::DockerResponseServerError { status_code, .. } = error { Some(*status_code) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let check = |status: u16, message: &str, expect: Option<Refusal>| {
            let reason = match refusal(status, message.to_owned()) {
                Error::Rejected { reason, .. } => Some(reason),
                Error::Transient(_) => None,
                Error::Unknown(text) => panic!("unknown: {text}"),
            };
            assert_eq!(reason, expect, "{status} {message}");
        };
        check(
            500,
            "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:80 failed: port is already allocated",
            Some(Refusal::PortTaken),
        );
        check(500, "Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use", Some(Refusal::PortTaken));
        check(500, "failed to bind host port for 127.0.0.1:80:172.17.0.2:80/tcp: address already in use", Some(Refusal::PortTaken));
        check(500, "mkdir /var/lib/docker/overlay2/x: no space left on device", Some(Refusal::DiskFull));
        check(403, "Pool overlaps with other one on this address space", Some(Refusal::SubnetTaken));
        check(500, "no available IPv4 addresses on this network's address pools: dm-ns-a (4f5e)", Some(Refusal::NetworkFull));
        check(404, "No such image: nothing:latest", Some(Refusal::NoImage));
        check(404, "network dm-ns-a not found", Some(Refusal::NoNetwork));
        check(409, "Conflict. The container name \"/x\" is already in use by container \"abc\". You have to remove", Some(Refusal::NameConflict));
        check(409, "removal of container abc is already in progress", Some(Refusal::Going));
        check(409, "container is marked for removal and cannot be started", Some(Refusal::Going));
        check(404, "No such container: abc", Some(Refusal::Going));
        check(409, "cannot start a paused container, try unpause instead", None);
        check(503, "starting", None);
        check(400, "invalid mount config", Some(Refusal::Other));
    }
}
