//! What audit mode remembers of the packets that it let pass: read, and forgotten by zone.

use std::collections::HashMap;

use aya::maps::MapError;
use sg_common::{
    abi::map,
    audited::{ENTRIES, Key, Seen},
};

use super::{KernelError, Reader, set::Set};

impl Set {
    /// Forgets what was seen in a zone.
    pub(crate) fn forget_audited(&mut self, zone: u32) -> Result<(), KernelError> {
        for words in self.audited_keys()? {
            if Key::from_words(words).way().zone == zone {
                match self.audited.remove(&words) {
                    // It gave way to another meanwhile.
                    Ok(()) | Err(MapError::KeyNotFound) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(())
    }

    /// The keys that are there. Where one goes while they are listed, the kernel begins again, so that a
    /// key may be told twice; no more are read than could be there.
    fn audited_keys(&self) -> Result<Vec<[u64; 4]>, KernelError> {
        let keys = self.audited.keys().take(2 * ENTRIES as usize);
        keys.collect::<Result<_, _>>().map_err(failed)
    }
}

impl Reader {
    /// What audit mode has let pass and would have been dropped, in no order.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn audited(&self) -> Result<HashMap<Key, Seen>, KernelError> {
        let set = self.set();
        let mut found = HashMap::new();
        for words in set.audited_keys()? {
            match set.audited.get(&words, 0) {
                Ok([packets, bytes, first, last]) => {
                    found.insert(Key::from_words(words), Seen { packets, bytes, first, last });
                }
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(found)
    }
}

fn failed(error: MapError) -> KernelError {
    KernelError::map("read", map::AUDITED, error)
}
