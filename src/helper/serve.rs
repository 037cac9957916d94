//! `helper static`: serves the files below one directory over HTTP, for `type: static`.
//!
//! The protocol (types, ranges, validators, decoding) is tower-http's. Added here: nothing outside the directory is served, not even
//! through a symbolic link, and nothing but regular files; one line per request; SIGTERM and SIGINT end it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower_http::services::ServeDir;

/// How long replies under way may go on after the signal to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub(super) fn main(root: PathBuf, host: &str, port: u16) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((host, port)).await.map_err(|error| named(&format!("cannot listen on {host}:{port}"), error))?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        super::say(&format!("serving {} on {}", root.display(), listener.local_addr()?))?;
        serve(listener, &root, async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        })
        .await
    })
}

/// Serves the files below `root` on a listener until `stop` is ready, then finishes what is under way, for 5 s at most.
///
/// # Errors
/// `root` is not a directory that can be read.
pub async fn serve(listener: TcpListener, root: &Path, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let root = root.canonicalize().map_err(|error| named(&format!("cannot serve {}", root.display()), error))?;
    if !root.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("cannot serve {}: it is not a directory", root.display())));
    }
    let files = ServeDir::new(&root);
    let app = Router::new().fallback_service(files).layer(from_fn_with_state(Arc::new(root), guard));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).with_graceful_shutdown(async move {
        stop.await;
        let _ = stopping.send(());
    });
    let deadline = async {
        // The sender goes unused only when the server ends first.
        let _ = stopped.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! { ended = server => ended, () = deadline => Ok(()) }
}

/// Refuses what leads outside, and writes the request line.
async fn guard(State(root): State<Arc<PathBuf>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = if stays_inside(&root, &path) { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() };
    if response.status() == StatusCode::NOT_FOUND {
        response = (StatusCode::NOT_FOUND, "404 not found\n").into_response();
    }
    // A closed standard output is no reason to stop serving.
    let _ = super::say(&format!("{method} {path} {} {}ms", response.status().as_u16(), begun.elapsed().as_millis()));
    response
}

/// Whether a path, with every symbolic link followed, is a regular file or a directory below the root, or nothing at all.
fn stays_inside(root: &Path, path: &str) -> bool {
    let Ok(decoded) = percent_decode_str(path).decode_utf8() else { return false };
    if decoded.contains('\0') || decoded.split('/').any(|part| part == "..") {
        return false;
    }
    let file = root.join(decoded.trim_start_matches('/'));
    let inside = |file: &Path| match file.canonicalize() {
        Ok(real) => real.starts_with(root) && (real.is_file() || real.is_dir()),
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    };
    inside(&file) && (!file.is_dir() || inside(&file.join("index.html")))
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Bytes;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tokio::net::TcpStream;

    struct Server {
        address: SocketAddr,
        stop: tokio::sync::oneshot::Sender<()>,
        ended: tokio::task::JoinHandle<io::Result<()>>,
        _site: tempfile::TempDir,
    }

    struct Reply {
        status: u16,
        body: String,
        headers: axum::http::HeaderMap,
    }

    impl Reply {
        fn header(&self, name: &str) -> &str {
            self.headers.get(name).map_or("", |value| value.to_str().unwrap())
        }
    }

    /// A site with a page, a folder with and one without an index, and links that lead out of it.
    async fn start() -> Server {
        let site = tempfile::tempdir().unwrap();
        let root = site.path().join("public");
        fs::create_dir_all(root.join("with space")).unwrap();
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::create_dir_all(root.join("trap")).unwrap();
        fs::write(root.join("index.html"), "<h1>home</h1>").unwrap();
        fs::write(root.join("with space/index.html"), "inner").unwrap();
        fs::write(root.join("app.js"), "0123456789").unwrap();
        fs::write(site.path().join("secret"), "secret").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("../../secret", root.join("trap/index.html")).unwrap();
        symlink("app.js", root.join("alias.js")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            serve(listener, &root, async {
                let _ = stopped.await;
            })
            .await
        });
        Server { address, stop, ended, _site: site }
    }

    async fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(server.address).await.unwrap())).await.unwrap();
        tokio::spawn(connection);
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Reply { status: parts.status.as_u16(), body, headers: parts.headers }
    }

    #[tokio::test]
    async fn files_and_indexes_are_served() {
        let server = start().await;
        let home = ask(&server, "GET", "/", &[]).await;
        assert_eq!((home.status, home.body.as_str(), home.header("content-type")), (200, "<h1>home</h1>", "text/html"));
        assert_eq!(ask(&server, "GET", "/with%20space/", &[]).await.body, "inner");
        assert_eq!(ask(&server, "GET", "/alias.js", &[]).await.body, "0123456789");
        let head = ask(&server, "HEAD", "/app.js", &[]).await;
        assert_eq!((head.status, head.body.as_str(), head.header("content-length")), (200, "", "10"));
        let part = ask(&server, "GET", "/app.js", &[("range", "bytes=2-4")]).await;
        assert_eq!((part.status, part.body.as_str()), (206, "234"));
        assert_eq!(ask(&server, "GET", "/empty/", &[]).await.status, 404);
        assert_eq!(ask(&server, "GET", "/none", &[]).await.status, 404);
        assert_eq!(ask(&server, "POST", "/app.js", &[]).await.status, 405);
    }

    #[tokio::test]
    async fn what_did_not_change_is_not_sent_again() {
        let server = start().await;
        let first = ask(&server, "GET", "/app.js", &[]).await;
        let (tag, modified) = (first.header("etag"), first.header("last-modified"));
        assert_eq!(ask(&server, "GET", "/app.js", &[("if-none-match", tag)]).await.status, 304);
        assert_eq!(ask(&server, "GET", "/app.js", &[("if-modified-since", modified)]).await.status, 304);
        assert_eq!(ask(&server, "GET", "/app.js", &[("if-none-match", "\"other\"")]).await.status, 200);
    }

    #[tokio::test]
    async fn nothing_outside_is_served() {
        let server = start().await;
        for path in ["/out", "/trap/", "/trap/index.html", "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/pipe", "/%00", "//etc/passwd"] {
            let reply = ask(&server, "GET", path, &[]).await;
            assert_eq!(reply.status, 404, "{path}");
            assert!(!reply.body.contains("secret"), "{path}");
        }
    }

    #[tokio::test]
    async fn it_ends_when_told_even_with_a_connection_open() {
        let server = start().await;
        let _idle = TcpStream::connect(server.address).await.unwrap();
        server.stop.send(()).unwrap();
        tokio::time::timeout(DRAIN * 2, server.ended).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_root_that_is_missing_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = serve(listener, Path::new("/nonexistent/site"), async {}).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/site"), "{error}");
    }
}
