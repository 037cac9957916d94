//! The host that the operator runs on: its clock, its ports, its routes.

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};

use dockmaster::controller::{Clock, Host, Randomness};
use jiff::Timestamp;

/// The wall clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still, for plans of another time.
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// The system's randomness.
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes);
    }
}

/// This host.
pub struct SystemHost;

impl Host for SystemHost {
    fn is_port_free(&self, address: IpAddr, port: u16) -> bool {
        TcpListener::bind((address, port)).is_ok()
    }

    /// From `/proc/net/route` (proc(5)): destination and mask as little-endian hexadecimal. The default route and host routes are no subnets.
    fn routes(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        table.lines().skip(1).filter_map(route).collect()
    }

    fn real_path(&self, path: &str) -> String {
        let path = Path::new(path);
        let known = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
        let real = known.and_then(|(above, real)| Some(real.join(path.strip_prefix(above).ok()?)));
        // Joining nothing adds a slash.
        real.map_or_else(|| path.to_owned(), |real| real.components().collect::<PathBuf>()).to_string_lossy().into_owned()
    }
}

fn route(line: &str) -> Option<String> {
    let mut fields = line.split_whitespace().skip(1);
    let destination = u32::from_str_radix(fields.next()?, 16).ok()?.swap_bytes();
    let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?.swap_bytes();
    let prefix = mask.leading_ones();
    (prefix > 0).then(|| format!("{}/{prefix}", std::net::Ipv4Addr::from(destination)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_links_even_where_its_end_does_not_exist() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("a")).unwrap();
        std::os::unix::fs::symlink(home.join("a"), home.join("b")).unwrap();
        let real = |path: &str| SystemHost.real_path(home.join(path).to_str().unwrap());
        let expected = |path: &str| home.join(path).display().to_string();
        assert_eq!([real("a"), real("b"), real("b/c/d"), real("c")], [expected("a"), expected("a"), expected("a/c/d"), expected("c")]);
    }

    #[test]
    fn a_route_is_read_as_a_subnet_and_the_default_route_is_none() {
        assert_eq!(route("docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0"), Some("172.17.0.0/16".to_owned()));
        assert_eq!(route("eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"), None);
        assert_eq!(route("nonsense"), None);
    }
}
