//! The `ip` scheme (`IPAuthenticationProvider`, 3.9.4 and later): addresses, prefixes, Java's text.

use core::fmt::Write as _;
use core::net::IpAddr;

/// An address with its family; IPv4 in the low 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Address {
    bits: u128,
    /// 32 or 128.
    width: u32,
}

/// Whether `expr` may stand in an ACL: an address, or `address/bits`.
pub(super) fn is_valid(expr: &str) -> bool {
    parse_expr(expr).is_some()
}

/// Whether the peer with the textual address `id` lies in `expr`. Families never match crosswise.
pub(super) fn matches(id: &str, expr: &str) -> bool {
    let (Some((net, prefix)), Some(peer)) = (parse_expr(expr), parse_address(id)) else {
        return false;
    };
    if net.width != peer.width {
        return false;
    }
    // A prefix of 0 would shift by the whole width, hence the checked shift.
    let dropped = net.width - prefix;
    (net.bits ^ peer.bits).checked_shr(dropped).unwrap_or(0) == 0
}

fn parse_expr(expr: &str) -> Option<(Address, u32)> {
    let (address, bits) = match expr.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (expr, None),
    };
    let address = parse_address(address)?;
    let prefix = match bits {
        // COMPAT(3.9): signs and leading zeros are what Java's parseInt takes.
        Some(text) => u32::try_from(text.parse::<i32>().ok()?).ok()?,
        None => address.width,
    };
    (prefix <= address.width).then_some((address, prefix))
}

fn parse_address(text: &str) -> Option<Address> {
    if text.contains(':') {
        parse_v6(text).map(|bits| Address { bits, width: 128 })
    } else {
        parse_v4(text).map(|bits| Address { bits, width: 32 })
    }
}

fn parse_v4(text: &str) -> Option<u128> {
    let mut parts = text.split('.');
    let mut bits = 0;
    for _ in 0..4 {
        let value = u8::try_from(parts.next()?.parse::<i32>().ok()?).ok()?;
        bits = bits << 8 | u128::from(value);
    }
    parts.next().is_none().then_some(bits)
}

/// Eight groups, or fewer around one `::`. No zone, no embedded IPv4.
fn parse_v6(text: &str) -> Option<u128> {
    let Some((head, tail)) = text.split_once("::") else {
        let (bits, count) = parse_groups(text)?;
        return (count == 8).then_some(bits);
    };
    let (head_bits, head_count) = parse_groups(head)?;
    let (tail_bits, tail_count) = parse_groups(tail)?;
    // `::` stands for one group at least, so the shift below is 16 to 128.
    if head_count + tail_count > 7 {
        return None;
    }
    let high = head_bits.checked_shl(16 * (8 - head_count)).unwrap_or(0);
    Some(high | tail_bits)
}

/// At most eight groups of hexadecimal digits separated by `:`, and their number.
fn parse_groups(text: &str) -> Option<(u128, u32)> {
    let (mut bits, mut count) = (0u128, 0);
    if text.is_empty() {
        return Some((0, 0));
    }
    for group in text.split(':') {
        if group.is_empty() || group.len() > 4 || count == 8 {
            return None;
        }
        // COMPAT(3.9): Java's parseInt takes a sign here too and keeps the low 16 bits.
        let value = i32::from_str_radix(group, 16).ok()?;
        bits = bits << 16 | u128::from(value as u16);
        count += 1;
    }
    Some((bits, count))
}

/// The text of an address as `InetAddress.getHostAddress` gives it: IPv6 uncompressed
/// (`0:0:0:0:0:0:0:1`), IPv4-mapped addresses as IPv4. The zone of a link-local address is left
/// out.
pub fn java_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let mut text = String::with_capacity(39);
            for (i, group) in v6.segments().iter().enumerate() {
                let separator = if i == 0 { "" } else { ":" };
                // Writing to a String cannot fail.
                let _ = write!(text, "{separator}{group:x}");
            }
            text
        }
    }
}
