use std::net::IpAddr;

use actix_web::HttpRequest;
use ipnet::IpNet;

/// Tells the client's address, believing `X-Forwarded-For` from trusted proxies only.
///
/// Addresses serve quotas and logs; no decision of trust hangs on them.
#[derive(Debug, Clone, Default)]
pub struct ClientAddress {
    trusted: Vec<IpNet>,
}

impl ClientAddress {
    /// Believes these proxies; none if empty.
    #[must_use]
    pub fn new(trusted: Vec<IpNet>) -> Self {
        Self { trusted }
    }

    /// Walks `X-Forwarded-For` from right to left while the address that vouches is a trusted proxy.
    #[must_use]
    pub fn of(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        let mut hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut address = peer.to_canonical();
        while self.trusted.iter().any(|net| net.contains(&address)) {
            let Some(Ok(next)) = hops.pop().map(str::parse::<IpAddr>) else { break };
            address = next.to_canonical();
        }
        Some(address)
    }
}

/// What quotas count as one client: an IPv4 address, or the /64 of an IPv6 address, since whoever has one address of it has
/// the rest too.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn address(trusted: &str, peer: &str, forwarded: &str) -> String {
        let request = TestRequest::default()
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header(("x-forwarded-for", forwarded))
            .to_http_request();
        let trusted = if trusted.is_empty() { vec![] } else { vec![trusted.parse().unwrap()] };
        ClientAddress::new(trusted).of(&request).unwrap().to_string()
    }

    #[test]
    fn forwarded_addresses_count_from_trusted_proxies_only() {
        assert_eq!(address("", "10.0.0.1", "1.2.3.4"), "10.0.0.1");
        assert_eq!(address("10.0.0.0/8", "10.0.0.1", "1.2.3.4"), "1.2.3.4");
        assert_eq!(address("10.0.0.0/8", "10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2"), "1.2.3.4");
        assert_eq!(address("10.0.0.0/8", "10.0.0.1", "garbage"), "10.0.0.1");
    }
}
