//! Records of runs as bytes.

use heph_proto::RunRecord;
use prost::Message;

/// Executions that a record keeps: of many, the slowest.
pub const MOST_EXECUTIONS: usize = 2000;

/// Version of the bytes: another one is not read.
const MAGIC: &[u8; 4] = b"hrr1";

/// Bytes of the checksum that follows it.
const CHECKSUM: usize = 16;

/// Gives a record its name, and keeps of its executions the slowest.
pub fn identify(record: &mut RunRecord) {
    record
        .executions
        .sort_by(|a, b| b.wall_us.cmp(&a.wall_us).then_with(|| a.address.cmp(&b.address)));
    record.more_executions += record.executions.len().saturating_sub(MOST_EXECUTIONS) as u64;
    record.executions.truncate(MOST_EXECUTIONS);
    let name = blake3::hash(crate::unique::name().as_bytes()).to_hex();
    record.id = name.chars().take(12).collect();
}

/// Magic, checksum, message.
pub(super) fn encode(record: &RunRecord) -> Vec<u8> {
    let message = record.encode_to_vec();
    let checksum = blake3::hash(&message);
    let checksum = checksum.as_bytes().iter().take(CHECKSUM);
    MAGIC.iter().chain(checksum).chain(&message).copied().collect()
}

/// `None` for what is not whole or not a record of this version.
pub(super) fn decode(bytes: &[u8]) -> Option<RunRecord> {
    let (checksum, message) = bytes.strip_prefix(MAGIC)?.split_at_checked(CHECKSUM)?;
    let is_whole = blake3::hash(message).as_bytes().starts_with(checksum);
    is_whole.then(|| RunRecord::decode(message).ok())?
}

/// Sorts by time.
pub(super) fn key(record: &RunRecord) -> Vec<u8> {
    let mut key = record.started_unix_ms.to_be_bytes().to_vec();
    key.extend_from_slice(record.id.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use heph_proto::Execution;

    use super::*;

    #[test]
    fn a_record_survives_and_nothing_else_does() {
        let mut record = RunRecord {
            selector: "//...".into(),
            ..RunRecord::default()
        };
        identify(&mut record);
        let bytes = encode(&record);
        assert_eq!(decode(&bytes), Some(record));
        for end in 0..bytes.len() {
            assert_eq!(decode(bytes.get(..end).unwrap()), None);
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            *wrong.get_mut(at).unwrap() ^= 1;
            assert_eq!(decode(&wrong), None, "byte {at}");
        }
    }

    #[test]
    fn of_many_executions_the_slowest_are_kept_and_the_others_counted() {
        let executions = (0..MOST_EXECUTIONS as u64 + 5).map(|number| Execution {
            address: format!("//:t{number}"),
            wall_us: number,
            ..Execution::default()
        });
        let mut record = RunRecord {
            executions: executions.collect(),
            ..RunRecord::default()
        };
        identify(&mut record);
        assert_eq!(record.more_executions, 5);
        assert_eq!(record.executions.len(), MOST_EXECUTIONS);
        assert_eq!(
            record.executions.last().map(|execution| execution.wall_us),
            Some(5)
        );
    }
}
