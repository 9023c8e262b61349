use std::fmt;

use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};

/// Port of a server and of a sentinel where the URL names none.
const PORTS: (u16, u16) = (6_379, 26_379);

/// A URL that leads to no Redis. It is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no URL of a Redis")]
pub struct RouteError;

/// What `cluster.redis` says.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) to: To,
    pub(crate) tls: bool,
    /// User, password and database of the URL.
    pub(crate) login: RedisConnectionInfo,
}

/// Where it leads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum To {
    /// One server, or a name behind which there is always one.
    One(ConnectionAddr),
    /// The server that sentinels call by this name.
    Sentinel { sentinels: Vec<Place>, master: String },
    /// The servers of a Redis Cluster, found from any of these.
    Cluster(Vec<Place>),
}

/// Host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Route {
    /// Reads `redis://`, `rediss://`, `unix://`, and `redis+sentinel://…/<master>` and `redis+cluster://` with several
    /// hosts, each also with TLS (`rediss+…`).
    ///
    /// # Errors
    /// [`RouteError`].
    pub(crate) fn parse(url: &str) -> Result<Self, RouteError> {
        let (scheme, rest) = url.split_once("://").ok_or(RouteError)?;
        match scheme.split_once('+') {
            None => Self::to_one(url),
            Some((plain @ ("redis" | "rediss"), "sentinel")) => {
                let (hosts, master) = rest.rsplit_once('/').ok_or(RouteError)?;
                if !is_master_name(master) {
                    return Err(RouteError);
                }
                let (places, tls, login) = several(plain, hosts, PORTS.1)?;
                Ok(Self { to: To::Sentinel { sentinels: places, master: master.to_owned() }, tls, login })
            }
            Some((plain @ ("redis" | "rediss"), "cluster")) => {
                let (places, tls, login) = several(plain, rest.strip_suffix('/').unwrap_or(rest), PORTS.0)?;
                Ok(Self { to: To::Cluster(places), tls, login })
            }
            Some(_) => Err(RouteError),
        }
    }

    fn to_one(url: &str) -> Result<Self, RouteError> {
        let info = url.into_connection_info().map_err(|_| RouteError)?;
        let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        Ok(Self { to: To::One(info.addr().clone()), tls, login: info.redis_settings().clone() })
    }
}

/// Hosts of one URL, each of which is read as a URL of its own.
fn several(scheme: &str, hosts: &str, port: u16) -> Result<(Vec<Place>, bool, RedisConnectionInfo), RouteError> {
    let (login, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(login, hosts)| (login, hosts));
    let mut places = Vec::new();
    for host in hosts.split(',') {
        // What follows the port in a URL means nothing here.
        if host.is_empty() || host.contains(['/', '?', '#']) {
            return Err(RouteError);
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        let at = if login.is_empty() { "" } else { "@" };
        let route = Route::to_one(&format!("{scheme}://{login}{at}{host}"))?;
        let (To::One(ConnectionAddr::Tcp(host, port)) | To::One(ConnectionAddr::TcpTls { host, port, .. })) = route.to else {
            return Err(RouteError);
        };
        places.push((Place { host, port }, route.login));
    }
    let (_, login) = places.first().cloned().ok_or(RouteError)?;
    Ok((places.into_iter().map(|(place, _)| place).collect(), scheme == "rediss", login))
}

/// What Sentinel takes as a name.
fn is_master_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

impl Place {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// As an address to connect to.
    pub(crate) fn address(&self, tls: bool) -> ConnectionAddr {
        let (host, port) = (self.host.clone(), self.port);
        if tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for To {
    /// For people: no user, no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) => {
                Place::new(host.as_str(), *port).fmt(f)
            }
            Self::One(ConnectionAddr::Unix(path)) => path.display().fmt(f),
            Self::One(_) => f.write_str("redis"),
            Self::Sentinel { master, .. } => write!(f, "sentinel/{master}"),
            Self::Cluster(seeds) => write!(f, "cluster/{}", seeds.first().map_or_else(String::new, Place::to_string)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a route shows itself, whether by TLS, and its places.
    type Shown<'a> = (&'a str, bool, &'a [(&'a str, u16)]);

    fn check(url: &str, expected: Option<Shown<'_>>) {
        let route = Route::parse(url).ok().map(|route| {
            let places = match &route.to {
                To::One(_) => Vec::new(),
                To::Sentinel { sentinels: places, .. } | To::Cluster(places) => places.clone(),
            };
            (route.to.to_string(), route.tls, places)
        });
        let expected = expected.map(|(shown, tls, places)| {
            (shown.to_owned(), tls, places.iter().map(|(host, port)| Place::new(*host, *port)).collect::<Vec<_>>())
        });
        assert_eq!(route, expected, "{url}");
    }

    #[test]
    fn urls_lead_to_one_server_to_sentinels_or_to_a_cluster() {
        check("redis://ada:s3cret@redis.example/1", Some(("redis.example:6379", false, &[])));
        check("rediss://redis.example:7", Some(("redis.example:7", true, &[])));
        check("unix:///run/redis.sock", Some(("/run/redis.sock", false, &[])));
        check(
            "redis+sentinel://ada:s3cret@a,b:7,[::1]:8/main.1",
            Some(("sentinel/main.1", false, &[("a", 26_379), ("b", 7), ("::1", 8)])),
        );
        check("rediss+sentinel://a/main", Some(("sentinel/main", true, &[("a", 26_379)])));
        check("redis+cluster://a,[::1]", Some(("cluster/a:6379", false, &[("a", 6_379), ("::1", 6_379)])));
        check("rediss+cluster://:s3cret@a:7/", Some(("cluster/a:7", true, &[("a", 7)])));
        for wrong in [
            "nonsense",
            "http://a",
            "redis+sentinel://a",
            "redis+sentinel://a/",
            "redis+sentinel://a/b c",
            "redis+sentinel://a,,b/main",
            "redis+sentinel:///main",
            "redis+cluster://",
            "redis+cluster://a/0",
            "redis+cluster://a:x",
            "redis+ring://a",
            "unix+cluster://a",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn the_login_of_several_hosts_is_that_of_the_servers() {
        let route = Route::parse("redis+sentinel://ada:p%40ss@a,b/main").unwrap();
        assert_eq!((route.login.username(), route.login.password()), (Some("ada"), Some("p@ss")));
    }
}
