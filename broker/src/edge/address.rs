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

/// What attacks are counted by: the /24 of an IPv4 address, the /64 of an IPv6 address. Somebody with one address of it
/// often has more; neighbours share its counts.
#[must_use]
pub fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xFF).into()),
        v6 @ IpAddr::V6(_) => network(v6),
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

    #[test]
    fn neighbours_have_one_prefix_and_mapped_addresses_are_what_they_map() {
        let of = |address: &str| prefix(address.parse().unwrap()).to_string();
        assert_eq!(
            (of("192.0.2.1"), of("192.0.2.255"), of("192.0.3.1")),
            ("192.0.2.0".into(), "192.0.2.0".into(), "192.0.3.0".into())
        );
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.0");
        assert_eq!((of("2001:db8::1"), of("2001:db8:0:0:ffff::")), ("2001:db8::".into(), "2001:db8::".into()));
        assert_eq!(of("2001:db8:0:1::1"), "2001:db8:0:1::");
    }
}
