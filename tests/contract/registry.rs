//! A registry of one image on the loopback, which asks for a name and a password: what an engine needs of one to pull.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dockmaster::runtime::simulated::state::Remote;
use sha2::{Digest, Sha256};

/// The account that may pull.
pub const ACCOUNT: &str = "me:pass";

struct Content {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    refused: AtomicUsize,
}

/// A registry that runs as long as it lives.
pub struct Registry {
    /// Its host and port.
    pub host: String,
    content: Arc<Content>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Registry {
    /// With the image `/dev:1`, whose label makes it one of a kind.
    pub async fn new(label: &str) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(label.len() as u64);
        tar.append_data(&mut header, "label", label.as_bytes()).unwrap();
        let layer = tar.into_inner().unwrap();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"test": label}},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        })
        .to_string()
        .into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(&config)},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": layer.len(), "digest": digest(&layer)}],
        })
        .to_string()
        .into_bytes();
        let content = Arc::new(Content { manifest, config, layer, refused: AtomicUsize::new(0) });
        let routes = Router::new()
            .route("/v2/", get(async || StatusCode::OK))
            .route("/v2/dev/manifests/{reference}", get(manifest_of))
            .route("/v2/dev/blobs/{digest}", get(blob))
            .layer(axum::middleware::from_fn_with_state(content.clone(), only_me))
            .with_state(content.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        if let Some((engine, _)) = crate::support::simulated::engine() {
            let labels = serde_json::json!({"Labels": {"test": label}});
            let config = labels.as_object().cloned().unwrap_or_default();
            let remote = Remote { digest: digest(&content.manifest), config, account: Some(ACCOUNT.to_owned()), ..Remote::default() };
            engine.state().registry.insert(format!("{host}/dev:1"), remote);
        }
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { host, content, server }
    }

    /// Whether somebody came without the account; a simulated engine has the same content and does not come.
    pub fn has_refused(&self) -> bool {
        self.content.refused.load(Ordering::SeqCst) > 0 || crate::support::simulated::engine().is_some()
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

async fn only_me(State(content): State<Arc<Content>>, headers: HeaderMap, request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let expected = format!("Basic {}", STANDARD.encode(ACCOUNT));
    if headers.get(header::AUTHORIZATION).is_some_and(|given| given == expected.as_str()) {
        return next.run(request).await;
    }
    content.refused.fetch_add(1, Ordering::SeqCst);
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")]).into_response()
}

async fn manifest_of(State(content): State<Arc<Content>>, Path(reference): Path<String>) -> Response {
    if reference != "1" && reference != digest(&content.manifest) {
        let error = serde_json::json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
        return (StatusCode::NOT_FOUND, axum::Json(error)).into_response();
    }
    Response::builder()
        .header(header::CONTENT_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
        .header("Docker-Content-Digest", digest(&content.manifest))
        .body(Body::from(content.manifest.clone()))
        .unwrap()
}

async fn blob(State(content): State<Arc<Content>>, Path(wanted): Path<String>) -> Response {
    match [&content.config, &content.layer].into_iter().find(|bytes| digest(bytes) == wanted) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
