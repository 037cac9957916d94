//! `helper probe`: whether an HTTP address or a TCP port answers. The health check of images that have no shell.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use axum::http::Uri;

const LIMIT: Duration = Duration::from_secs(5);

/// `http://host[:port][/path]` answers with a status below 400, or `tcp:host:port` takes a connection, within 5 s.
///
/// # Errors
/// One sentence saying what was not so.
pub fn probe(target: &str) -> Result<(), String> {
    if let Some(address) = target.strip_prefix("tcp:") {
        return connect(address).map(drop);
    }
    let uri: Uri = target.parse().map_err(|error| format!("`{target}` is not a URL: {error}"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("cannot probe `{target}`: write http://host:port/path or tcp:host:port"));
    };
    let stream = connect(&format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let status = ask(stream, authority.as_str(), path).map_err(|error| format!("{target} does not answer: {error}"))?;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("{target} answers {status}")) }
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let mut problem = "it has no address".to_owned();
    for candidate in address.to_socket_addrs().map_err(|error| format!("cannot resolve {address}: {error}"))? {
        match TcpStream::connect_timeout(&candidate, LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(format!("cannot connect to {address}: {problem}"))
}

/// The status of the reply; HTTP/1.0, so that the server closes the connection.
fn ask(mut stream: TcpStream, host: &str, path: &str) -> std::io::Result<u16> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: dockmaster-probe\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(std::io::Read::take(stream, 1024)).read_line(&mut line)?;
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_whitespace().nth(1)).and_then(|code| code.parse().ok());
    status.ok_or_else(|| std::io::Error::other("not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers one connection with this text.
    fn answering(reply: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            (&stream).write_all(reply.as_bytes()).unwrap();
        });
        port
    }

    #[test]
    fn a_page_that_is_there_is_well_and_an_error_is_not() {
        let port = answering("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(probe(&format!("http://127.0.0.1:{port}/ready?x=1")), Ok(()));
        let port = answering("HTTP/1.1 503 Busy\r\n\r\n");
        assert!(probe(&format!("http://127.0.0.1:{port}")).unwrap_err().ends_with("answers 503"));
        let port = answering("SSH-2.0\r\n");
        assert!(probe(&format!("http://127.0.0.1:{port}/")).unwrap_err().ends_with("not HTTP"));
    }

    #[test]
    fn a_port_takes_connections_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp:{}", listener.local_addr().unwrap());
        assert_eq!(probe(&address), Ok(()));
        drop(listener);
        assert!(probe(&address).unwrap_err().starts_with("cannot connect to 127.0.0.1:"));
    }

    #[test]
    fn other_targets_are_refused() {
        for target in ["https://example.com/", "localhost:80", "ftp://x/"] {
            assert!(probe(target).unwrap_err().contains("http://host:port/path"), "{target}");
        }
    }
}
