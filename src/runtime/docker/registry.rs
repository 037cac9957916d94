//! Who we are to a registry: the usual Docker configuration, with its credential helpers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The name under which Docker keeps the credentials of its own hub.
const HUB: &str = "https://index.docker.io/v1/";
/// The limit of a credential helper; some ask a person.
const HELPER: Duration = Duration::from_secs(30);

/// The parts of `config.json` that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Login>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Login {
    auth: String,
    identitytoken: String,
}

/// What a credential helper answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The credentials for the registry of an image, by the `config.json` in that folder: from the helper of that registry, the common store, or the file itself. `None`: none.
///
/// # Errors
/// A sentence for people when the configuration or a helper's answer cannot be read.
pub async fn credentials(folder: Option<&Path>, reference: &str) -> Result<Option<DockerCredentials>, String> {
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(None) };
    let text = match tokio::fs::read_to_string(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let config: Config = serde_json::from_str(&text).map_err(|error| format!("cannot understand {}: {error}; mend it, or log in again", path.display()))?;
    find(&config, reference).await
}

async fn find(config: &Config, reference: &str) -> Result<Option<DockerCredentials>, String> {
    let host = registry(reference);
    let server = if host == "docker.io" { HUB } else { host };
    let helper = config.cred_helpers.iter().find(|(key, _)| same_registry(key, host)).map(|(_, name)| name).or(config.creds_store.as_ref());
    if let Some(name) = helper.filter(|name| !name.is_empty()) {
        let answer = ask(name, server).await?;
        if let Some(answer) = answer {
            return Ok(Some(answer.into_credentials(server)));
        }
    }
    let Some(login) = config.auths.iter().find(|(key, _)| same_registry(key, host)).map(|(_, login)| login) else { return Ok(None) };
    if !login.identitytoken.is_empty() {
        let identitytoken = Some(login.identitytoken.clone());
        return Ok(Some(DockerCredentials { identitytoken, serveraddress: Some(server.to_owned()), ..Default::default() }));
    }
    if login.auth.is_empty() {
        return Ok(None);
    }
    let unreadable = || format!("the login for {host} in Docker's config.json cannot be read: run `docker login {host}` again");
    let decoded = STANDARD.decode(&login.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)?;
    let (username, password) = decoded.split_once(':').ok_or_else(unreadable)?;
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Some(DockerCredentials { username: Some(username.to_owned()), password: Some(password), serveraddress: Some(server.to_owned()), ..Default::default() }))
}

impl Answer {
    fn into_credentials(self, server: &str) -> DockerCredentials {
        let serveraddress = Some(server.to_owned());
        if self.username == "<token>" {
            return DockerCredentials { identitytoken: Some(self.secret), serveraddress, ..Default::default() };
        }
        DockerCredentials { username: Some(self.username), password: Some(self.secret), serveraddress, ..Default::default() }
    }
}

/// Asks `docker-credential-<name>`. One that knows nothing of the server exits with an error and says so.
async fn ask(name: &str, server: &str) -> Result<Option<Answer>, String> {
    let program = format!("docker-credential-{name}");
    let failed = |error: String| format!("{program} gives no credentials for {server}: {error}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut input = child.stdin.take();
    let talk = async {
        if let Some(input) = &mut input {
            input.write_all(server.as_bytes()).await?;
        }
        drop(input);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER, talk).await;
    let output = output.map_err(|_| failed(format!("no answer within {} s", HELPER.as_secs())))?.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return serde_json::from_str(&text).map(Some).map_err(|_| failed("its answer cannot be read".to_owned()));
    }
    if text.contains("credentials not found") { Ok(None) } else { Err(failed(text.trim().to_owned())) }
}

/// The host of a reference's registry; Docker's own hub where none is named.
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => {
            if matches!(first, "index.docker.io" | "registry-1.docker.io") {
                "docker.io"
            } else {
                first
            }
        }
        Some(_) | None => "docker.io",
    }
}

/// Whether a key of the configuration, which may be an old-style address, is of that registry.
fn same_registry(key: &str, host: &str) -> bool {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.split('/').next().unwrap_or(bare);
    bare == host || (host == "docker.io" && matches!(bare, "index.docker.io" | "registry-1.docker.io"))
}

/// The reference with its tag: without one an engine would pull all of them.
pub fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains(':') || name.contains('@') { reference.to_owned() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_registries_and_tags() {
        for (reference, host, tagged) in [
            ("busybox", "docker.io", "busybox:latest"),
            ("acme/dev:1", "docker.io", "acme/dev:1"),
            ("index.docker.io/library/busybox", "docker.io", "index.docker.io/library/busybox:latest"),
            ("localhost:5000/dev", "localhost:5000", "localhost:5000/dev:latest"),
            ("ghcr.io/acme/dev@sha256:0", "ghcr.io", "ghcr.io/acme/dev@sha256:0"),
        ] {
            assert_eq!(registry(reference), host);
            assert_eq!(with_tag(reference), tagged);
        }
    }

    #[tokio::test]
    async fn logins_are_found_in_every_spelling_of_the_registry() {
        let config = |json: serde_json::Value| serde_json::from_value::<Config>(json).unwrap();
        let login = STANDARD.encode("me:pass:word");
        let hub = config(serde_json::json!({"auths": {HUB: {"auth": login}}, "HttpHeaders": {"ignored": "yes"}}));
        let found = find(&hub, "busybox").await.unwrap().unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("me"), Some("pass:word")));
        assert!(find(&hub, "ghcr.io/x").await.unwrap().is_none());
        let own = config(serde_json::json!({"auths": {"https://registry.example.com:5000/v2/": {"identitytoken": "t"}}}));
        assert_eq!(find(&own, "registry.example.com:5000/x").await.unwrap().unwrap().identitytoken.as_deref(), Some("t"));
        let broken = config(serde_json::json!({"auths": {"ghcr.io": {"auth": "%"}}}));
        assert!(find(&broken, "ghcr.io/x").await.unwrap_err().contains("docker login ghcr.io"));
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_said() {
        let config: Config = serde_json::from_value(serde_json::json!({"credHelpers": {"ghcr.io": "no-such-helper"}})).unwrap();
        assert!(find(&config, "ghcr.io/x").await.unwrap_err().starts_with("docker-credential-no-such-helper"));
    }
}
