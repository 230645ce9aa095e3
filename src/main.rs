//! The `ringkeeper` binary.

fn main() {
    println!("ringkeeper {}", env!("CARGO_PKG_VERSION"));
}
