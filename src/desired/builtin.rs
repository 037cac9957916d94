//! What holds where nobody says anything: the built-in workspace types, and the defaults below all layers.

use serde_json::{Value, json};

use crate::resource::WorkspaceTypeSpec;
use crate::resource::quantity::{Bytes, Duration};

/// Processes and threads of a container.
pub const PIDS: i64 = 512;
/// Time between the stop signal and SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// Sent bytes between two samples that count as activity.
pub const IDLE_NETWORK: Bytes = Bytes(10 << 10);
/// Time between two health tests.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
/// How long a health test may take.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures in a row that make unhealthy.
pub const HEALTH_RETRIES: u32 = 3;
/// Time between two health tests in the start period.
pub const HEALTH_START_INTERVAL: Duration = Duration::from_secs(2);
/// How long a preview lives.
pub const PREVIEW_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long an expired preview stays listed.
pub const TTL_AFTER_EXPIRED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The names of the built-in types.
pub const TYPES: [&str; 7] = ["static", "node", "python", "php", "go", "ruby", "code-server"];

/// A built-in type by name. A declared WorkspaceType of the same name takes its place, and may build on it with `base`.
pub fn workspace_type(name: &str) -> Option<WorkspaceTypeSpec> {
    let spec = match name {
        "static" => json!({
            "displayName": "Static files",
            "description": "Serves the files of /workspace over HTTP.",
            "detect": ["index.html"],
            "image": super::ImageWant::HELPER,
            "command": ["static", "--root", "/workspace", "--port", "8080"],
            "workingDir": "/workspace",
            "ports": [{"name": "http", "container": 8080, "publish": "Pool"}],
            "health": {"test": ["CMD", "/dockmaster", "helper", "probe", "http://127.0.0.1:8080/"]},
        }),
        "node" => language("Node.js", "node:22", &["package.json"], 3000, &[("NODE_ENV", "development")]),
        "python" => language("Python", "python:3.13", &["pyproject.toml", "requirements.txt", "setup.py", "Pipfile"], 8000, &[("PYTHONUNBUFFERED", "1")]),
        "php" => language("PHP", "php:8.4-cli", &["composer.json", "index.php"], 8000, &[]),
        "go" => language("Go", "golang:1.25", &["go.mod"], 8080, &[("GOFLAGS", "-buildvcs=false")]),
        "ruby" => language("Ruby", "ruby:3.4", &["Gemfile"], 3000, &[]),
        "code-server" => json!({
            "displayName": "code-server",
            "description": "VS Code in the browser; its password is in /home/coder/.config/code-server/config.yaml, or set HASHED_PASSWORD.",
            "compatibleWith": ["static", "node", "python", "php", "go", "ruby"],
            "image": "codercom/code-server:latest",
            "entrypoint": ["/usr/bin/entrypoint.sh"],
            "command": ["--bind-addr", "0.0.0.0:8080", "."],
            "workingDir": "/workspace",
            "ports": [{"name": "http", "container": 8080, "publish": "Pool"}],
            "health": {"test": ["CMD-SHELL", "curl -fsS http://127.0.0.1:8080/healthz"]},
        }),
        _ => return None,
    };
    serde_json::from_value(spec).ok()
}

/// A language's image, kept alive for whoever works in it.
fn language(display: &str, image: &str, detect: &[&str], port: u16, env: &[(&str, &str)]) -> Value {
    let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({
        "displayName": display,
        "description": format!("{display} from {image}; stays up for terminals and editors until the spec names a command."),
        "detect": detect,
        "compatibleWith": ["static"],
        "image": image,
        "command": ["sleep", "infinity"],
        "workingDir": "/workspace",
        "env": env,
        "ports": [{"name": "http", "container": port, "publish": "Pool"}],
    })
}

/// The layer below all others.
pub fn defaults() -> Value {
    json!({
        "state": "Running",
        "pullPolicy": "IfNotPresent",
        "resources": {"pids": PIDS},
        "restart": "unless-stopped",
        "init": true,
        "stopGracePeriod": STOP_GRACE,
        "deletionPolicy": "Snapshot",
    })
}

/// What a health check has where it says nothing; only below a check, so that an image's own stays as it is.
pub fn health_defaults() -> Value {
    json!({"interval": HEALTH_INTERVAL, "timeout": HEALTH_TIMEOUT, "retries": HEALTH_RETRIES, "startInterval": HEALTH_START_INTERVAL})
}

/// What an idle policy has where it says nothing.
pub fn idle_defaults() -> Value {
    json!({"network": IDLE_NETWORK})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_readable_and_can_run() {
        for name in TYPES {
            let spec = workspace_type(name).unwrap_or_else(|| panic!("{name}"));
            assert!(spec.image.is_some() && spec.command.is_some() && spec.ports.len() == 1 && spec.display_name.is_some(), "{name}");
            assert!(spec.compatible_with.iter().all(|other| TYPES.contains(&other.as_str())), "{name}");
        }
        assert_eq!(workspace_type("cobol"), None);
    }
}
