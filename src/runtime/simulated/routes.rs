//! The endpoints.

use hyper::Method;

use super::http::{Request, Served, decoded};
use super::state::Engine;
use super::{containers, create, events, exec, images, inspect, networks, streams, system, volumes};

/// An endpoint.
pub struct Route {
    /// `POST`.
    pub method: &'static str,
    /// Without the version.
    pub path: &'static str,
    /// Whether it changes something.
    pub mutating: bool,
    /// What serves it.
    pub serve: fn(&mut Engine, &Request) -> Served,
}

const fn get(path: &'static str, serve: fn(&mut Engine, &Request) -> Served) -> Route {
    Route { method: "GET", path, mutating: false, serve }
}

const fn post(path: &'static str, serve: fn(&mut Engine, &Request) -> Served) -> Route {
    Route { method: "POST", path, mutating: true, serve }
}

const fn delete(path: &'static str, serve: fn(&mut Engine, &Request) -> Served) -> Route {
    Route { method: "DELETE", path, mutating: true, serve }
}

static ROUTES: [Route; 51] = [
    get("/_ping", system::ping),
    get("/version", system::version),
    get("/info", system::info),
    get("/events", events::events),
    get("/system/df", system::disk),
    get("/containers/json", containers::list),
    get("/containers/{id}/json", inspect::inspect),
    get("/containers/{id}/logs", streams::logs),
    get("/containers/{id}/stats", streams::stats),
    get("/containers/{id}/top", streams::top),
    post("/containers/create", create::create),
    post("/containers/prune", containers::prune),
    post("/containers/{id}/start", containers::start),
    post("/containers/{id}/stop", containers::stop),
    post("/containers/{id}/restart", containers::restart),
    post("/containers/{id}/kill", containers::kill),
    post("/containers/{id}/pause", containers::pause),
    post("/containers/{id}/unpause", containers::unpause),
    post("/containers/{id}/rename", containers::rename),
    post("/containers/{id}/update", containers::update),
    post("/containers/{id}/resize", streams::resize),
    Route { mutating: false, ..post("/containers/{id}/wait", streams::wait) },
    post("/containers/{id}/attach", streams::attach),
    post("/containers/{id}/exec", exec::create),
    delete("/containers/{id}", containers::delete),
    post("/exec/{id}/start", exec::start),
    post("/exec/{id}/resize", exec::resize),
    get("/exec/{id}/json", exec::inspect),
    get("/networks", networks::list),
    post("/networks/create", networks::create),
    post("/networks/prune", networks::prune),
    post("/networks/{id}/connect", networks::connect),
    post("/networks/{id}/disconnect", networks::disconnect),
    get("/networks/{id}", networks::inspect),
    delete("/networks/{id}", networks::delete),
    get("/volumes", volumes::list),
    post("/volumes/create", volumes::create),
    post("/volumes/prune", volumes::prune),
    get("/volumes/{name}", volumes::inspect),
    delete("/volumes/{name}", volumes::delete),
    get("/images/json", images::list),
    post("/images/create", images::create),
    post("/images/prune", images::prune),
    get("/images/{name}/json", images::inspect),
    get("/images/{name}/history", images::history),
    post("/images/{name}/tag", images::tag),
    delete("/images/{name}", images::delete),
    post("/build/prune", system::prune_builds),
    Route { method: "HEAD", ..get("/_ping", system::ping) },
    Route { method: "HEAD", ..get("/version", system::version) },
    Route { method: "HEAD", ..get("/info", system::info) },
];

/// The endpoint of a path, and what names an object in it.
pub fn find(method: &Method, path: &str) -> Option<(&'static Route, String)> {
    ROUTES.iter().filter(|route| route.method == method.as_str()).find_map(|route| Some((route, target(route.path, path)?)))
}

/// What stands where the pattern has a name; empty where it has none. The name of an image may hold slashes.
fn target(pattern: &str, path: &str) -> Option<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then(String::new) };
    let (_, after) = rest.split_once('}')?;
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    let image = pattern.starts_with("/images/");
    (!name.is_empty() && (image || !name.contains('/'))).then(|| decoded(name))
}

/// The version before a path, and the path.
pub fn version(path: &str) -> (Option<(u16, u16)>, &str) {
    let parsed = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        let (major, minor) = version.split_once('.')?;
        Some(((major.parse().ok()?, minor.parse().ok()?), &rest[version.len()..]))
    });
    parsed.map_or((None, path), |(version, rest)| (Some(version), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_endpoints() {
        let check = |method: Method, path: &str, expect: Option<(&str, &str)>| {
            let found = find(&method, path).map(|(route, target)| (route.path.to_owned(), target));
            assert_eq!(found.as_ref().map(|(path, target)| (path.as_str(), target.as_str())), expect, "{method} {path}");
        };
        check(Method::GET, "/containers/json", Some(("/containers/json", "")));
        check(Method::GET, "/containers/a/json", Some(("/containers/{id}/json", "a")));
        check(Method::POST, "/containers/prune", Some(("/containers/prune", "")));
        check(Method::DELETE, "/images/localhost:5000/a%2Fb:1", Some(("/images/{name}", "localhost:5000/a/b:1")));
        check(Method::POST, "/images/a/b/tag", Some(("/images/{name}/tag", "a/b")));
        check(Method::PUT, "/containers/a/archive", None);
        assert_eq!(version("/v1.41/info"), (Some((1, 41)), "/info"));
        assert_eq!(version("/volumes"), (None, "/volumes"));
    }
}
