//! The way to an engine: where it is, whether it may be used, and what it is.

use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::connections::kept;
use super::error::{classify, within};
use crate::runtime::{Error, Refusal};

/// Where an engine answers when nothing says otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// The oldest Engine API that dockmaster speaks: Docker 20.10.
pub const OLDEST_API: (u16, u16) = (1, 41);

/// Longer than any single reply may take to begin; calls carry shorter limits of their own.
const REPLY_SECONDS: u64 = 120;
const HELLO: Duration = Duration::from_secs(10);

/// An engine that answered, and is one that dockmaster can use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    /// The Engine API.
    pub docker: Docker,
    /// Where it is: `unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375`.
    pub host: String,
    /// What the engine said of itself at the time of the connection.
    pub info: Arc<SystemInfo>,
    /// The newest Engine API version that it speaks.
    pub api: (u16, u16),
    /// Whether it runs on this host and in this host's network and process namespaces, so that `/proc` can be read and ports probed.
    pub local: bool,
    /// The folder of Docker's own configuration, with the logins of registries: `DOCKER_CONFIG`, else `~/.docker`.
    pub config: Option<PathBuf>,
}

impl Client {
    /// The engine's id at the time of the connection.
    pub fn engine(&self) -> &str {
        self.info.id.as_deref().unwrap_or_default()
    }
}

/// Where an engine is.
#[derive(Clone, Debug)]
pub struct Address {
    /// `unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375`.
    pub host: String,
    /// Whether it might run on this host.
    near: bool,
    /// The folder of Docker's own configuration.
    config: Option<PathBuf>,
}

/// Connects to `host`, else to what `DOCKER_HOST` names, else to [`DEFAULT_HOST`].
///
/// # Errors
/// `Transient` when nothing answers; `Rejected` for an address that may not be used, and for an engine that is too old.
pub async fn connect(host: Option<&str>) -> Result<Client, Error> {
    let address = Address::of(host);
    meet(address.open()?, &address).await
}

impl Address {
    /// `host`, else what `DOCKER_HOST` names, else [`DEFAULT_HOST`].
    pub fn of(host: Option<&str>) -> Self {
        let from_environment = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let host = host.map(str::to_owned).or(from_environment).unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let near = host.starts_with("unix://") || tcp_host(&host).is_some_and(is_loopback);
        Self { host, near, config: folder("DOCKER_CONFIG") }
    }

    /// An engine that this name stands for where a host would.
    pub fn named(name: &str) -> Self {
        Self { host: name.to_owned(), near: false, config: None }
    }

    /// A client of whatever answers there; nobody is asked yet.
    ///
    /// # Errors
    /// `Rejected` for an address that may not be used.
    pub fn open(&self) -> Result<Docker, Error> {
        open(&self.host)
    }

    /// The client of the engine there, which said this of itself.
    pub fn client(&self, docker: Docker, api: (u16, u16), info: SystemInfo) -> Client {
        let here = rustix::system::uname();
        let same_host = info.name.as_deref().is_some_and(|name| here.nodename().to_str() == Ok(name))
            && info.kernel_version.as_deref().is_some_and(|kernel| here.release().to_str() == Ok(kernel));
        Client { docker, info: Arc::new(info), api, local: self.near && same_host, config: self.config.clone(), host: self.host.clone() }
    }
}

/// Connects to an engine of this process, over connections from `dial`. `name` stands where a host would.
///
/// # Errors
/// As for [`connect`].
pub async fn connect_over<S>(name: &str, dial: impl Fn() -> std::io::Result<S> + Clone + Send + Sync + 'static) -> Result<Client, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let docker = over(move || std::future::ready(dial())).map_err(|error| unreachable(name, &classify(error)))?;
    meet(docker, &Address::named(name)).await
}

/// An engine's client over connections from `dial`.
///
/// # Errors
/// The client does not take the address, which is always the same. What cannot be reached shows at the first call.
pub fn over<S, D>(dial: impl Fn() -> D + Clone + Send + Sync + 'static) -> Result<Docker, bollard::errors::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Future<Output = std::io::Result<S>> + Send + 'static,
{
    Docker::connect_with_custom_transport(kept(dial), Some("http://engine"), REPLY_SECONDS, API_DEFAULT_VERSION)
}

/// Finds out who answers there, and whether it can be used.
///
/// # Errors
/// As for [`connect`].
pub async fn meet(docker: Docker, address: &Address) -> Result<Client, Error> {
    // Each takes an engine long: it asks the programs that it is made of.
    let said = futures::try_join!(within(HELLO, docker.version()), within(HELLO, docker.info()));
    let (version, info) = said.map_err(|error| unreachable(&address.host, &error))?;
    let api = version.api_version.as_deref().and_then(parse_api).unwrap_or_default();
    if api < OLDEST_API {
        return Err(refused(format!(
            "the engine at {} is Docker {} with API {}.{}; dockmaster needs API {}.{} (Docker 20.10) or newer: upgrade the engine",
            address.host,
            version.version.unwrap_or_default(),
            api.0,
            api.1,
            OLDEST_API.0,
            OLDEST_API.1
        )));
    }
    Ok(address.client(docker, api, info))
}

fn open(host: &str) -> Result<Docker, Error> {
    if let Some(path) = host.strip_prefix("unix://") {
        let path: Arc<Path> = Path::new(path).into();
        return over(move || UnixStream::connect(path.clone())).map_err(|error| unreachable(host, &classify(error)));
    }
    let Some(name) = tcp_host(host) else {
        return Err(refused(format!("cannot use the engine address `{host}`: write `unix:///path` or `tcp://host:port`")));
    };
    let tls = std::env::var("DOCKER_TLS_VERIFY").is_ok_and(|value| !value.is_empty()) || host.starts_with("https://");
    if tls {
        let certificates = folder("DOCKER_CERT_PATH")
            .ok_or_else(|| refused("TLS is asked for, and neither DOCKER_CERT_PATH nor HOME is set: set DOCKER_CERT_PATH".to_owned()))?;
        let file = |name: &str| certificates.join(name);
        return Docker::connect_with_ssl(host, &file("key.pem"), &file("cert.pem"), &file("ca.pem"), REPLY_SECONDS, API_DEFAULT_VERSION)
            .map_err(|error| refused(format!("cannot use TLS for {host} with the certificates in {}: {error}", certificates.display())));
    }
    if !is_loopback(name) {
        return Err(refused(format!(
            "{host} is another machine, and without TLS anyone on the way could become root there: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, \
             or forward its socket with `ssh -L /tmp/docker.sock:/var/run/docker.sock {name}` and use unix:///tmp/docker.sock"
        )));
    }
    Docker::connect_with_http(host, REPLY_SECONDS, API_DEFAULT_VERSION).map_err(|error| unreachable(host, &classify(error)))
}

/// What that variable names, else `~/.docker`, as for the docker command line.
fn folder(variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker")))
}

/// The host of a TCP address, without brackets.
fn tcp_host(address: &str) -> Option<&str> {
    let rest = ["tcp://", "http://", "https://"].iter().find_map(|scheme| address.strip_prefix(scheme))?;
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next()?,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `1.41` as numbers.
fn parse_api(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn unreachable(host: &str, error: &Error) -> Error {
    Error::Transient(format!("no Docker engine answers at {host}: {error}; is it running, and may this user open its socket?"))
}

fn refused(message: String) -> Error {
    Error::Rejected { reason: Refusal::Other, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_addresses() {
        for (address, host) in [
            ("tcp://127.0.0.1:2375", Some("127.0.0.1")),
            ("tcp://[::1]:2375/", Some("::1")),
            ("http://localhost", Some("localhost")),
            ("https://build.example.com:2376", Some("build.example.com")),
            ("ssh://me@there", None),
            ("tcp://", None),
        ] {
            assert_eq!(tcp_host(address), host, "{address}");
        }
        assert!(is_loopback("127.8.8.8") && is_loopback("::1") && is_loopback("localhost"));
        assert!(!is_loopback("localhost.example.com") && !is_loopback("10.0.0.1"));
    }

    #[test]
    fn api_versions_compare_as_numbers() {
        assert!(parse_api("1.9") < parse_api("1.41"));
        assert_eq!(parse_api("1.51"), Some((1, 51)));
        assert_eq!(parse_api("new"), None);
    }

    #[tokio::test]
    async fn an_address_that_may_not_be_used_is_refused_with_a_way_out() {
        for (address, way_out) in [("ssh://me@there", "unix:///path"), ("tcp://192.0.2.1:2375", "DOCKER_CERT_PATH")] {
            let Err(Error::Rejected { message, .. }) = connect(Some(address)).await else { panic!("{address} was not refused") };
            assert!(message.contains(way_out), "{message}");
        }
        let absent = connect(Some("unix:///nonexistent/docker.sock")).await;
        assert!(matches!(absent, Err(Error::Transient(ref message)) if message.contains("/nonexistent/docker.sock")), "{absent:?}");
    }

    #[tokio::test]
    async fn an_engine_that_is_too_old_is_refused_with_its_version() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("old.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let engine = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _read = caller.read(&mut request).await.unwrap();
                let body = r#"{"Version": "19.03.15", "ApiVersion": "1.40"}"#;
                let reply = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                caller.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        let refused = connect(Some(&format!("unix://{}", socket.display()))).await;
        engine.abort();
        let Err(Error::Rejected { message, .. }) = refused else { panic!("not refused: {refused:?}") };
        assert!(message.contains("19.03.15") && message.contains("API 1.41"), "{message}");
    }
}
