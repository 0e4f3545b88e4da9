//! Snapshots that were tampered with.

use online::Random;

/// Snapshots in which some bytes were changed, and which may end too soon, each with a checksum that fits: only what is
/// inside can be found out.
pub(crate) fn forged(bytes: &[u8], number: u32) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random::new(11);
    (0..number).map(move |_| {
        let mut forged = bytes.to_vec();
        for _ in 0..=random.below(3) {
            let place = random.below(forged.len() as u32 - 4) as usize;
            forged[place] = random.bits() as u8;
        }
        if random.below(4) == 0 {
            forged.truncate(40 + random.below(forged.len() as u32 - 40) as usize);
        }
        sealed(forged)
    })
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let checksum = crc32(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&checksum);
    bytes
}

/// CRC-32 as IEEE 802.3 has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}
