//! Records of which a message has thousands, as words of a fixed number each: several times faster to write and to read
//! than fields of as many bytes as they need. For `#[serde(with = "words")]`.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer, Serializer,
    de::{Error, Visitor},
};

/// A record of `N` words.
pub trait Words<const N: usize>: Sized {
    fn words(&self) -> [u64; N];

    /// `None` of words that are no record.
    fn of_words(words: [u64; N]) -> Option<Self>;
}

/// The records, one behind the other.
///
/// # Errors
/// The serializer's.
pub fn serialize<T: Words<N>, const N: usize, S: Serializer>(
    records: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(8 * N * records.len());
    for record in records {
        for word in record.words() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    serializer.serialize_bytes(&bytes)
}

/// What [`serialize`] has written.
///
/// # Errors
/// Of bytes that are no whole records.
pub fn deserialize<'de, T: Words<N>, const N: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_bytes(Records(PhantomData))
}

struct Records<T, const N: usize>(PhantomData<T>);

impl<T: Words<N>, const N: usize> Visitor<'_> for Records<T, N> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "records of {N} words")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<T>, E> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return Err(E::invalid_length(bytes.len(), &self));
        };
        let (records, []) = words.as_chunks::<N>() else {
            return Err(E::invalid_length(bytes.len(), &self));
        };
        records
            .iter()
            .map(|words| T::of_words(words.map(u64::from_le_bytes)))
            .collect::<Option<_>>()
            .ok_or_else(|| E::custom("words that are no record"))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    /// One that has no odd first word.
    #[derive(Debug, PartialEq)]
    struct Even(u64, u64);

    impl Words<2> for Even {
        fn words(&self) -> [u64; 2] {
            [self.0, self.1]
        }

        fn of_words([first, second]: [u64; 2]) -> Option<Self> {
            (first % 2 == 0).then_some(Self(first, second))
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Message {
        #[serde(with = "super")]
        records: Vec<Even>,
        behind: u32,
    }

    fn read(bytes: &[u8]) -> Option<Message> {
        postcard::from_bytes(bytes).ok()
    }

    #[test]
    fn what_was_written_is_read() {
        for count in [0, 1, 100] {
            let message = Message {
                records: (0..count)
                    .map(|number| Even(2 * number, u64::MAX - number))
                    .collect(),
                behind: 7,
            };
            let bytes = postcard::to_allocvec(&message).unwrap();
            assert_eq!(read(&bytes), Some(message));
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let written = |words: &[u64]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            [&[bytes.len() as u8], &bytes[..], &[7]].concat()
        };
        assert_eq!(read(&written(&[4, 5])).unwrap().records, [Even(4, 5)]);
        assert_eq!(read(&written(&[3, 5])), None);
        assert_eq!(read(&written(&[4, 5, 6])), None);
        let mut cut = written(&[4, 5]);
        cut[0] = 15;
        assert_eq!(read(&cut), None);
    }
}
