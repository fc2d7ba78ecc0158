//! Bytes that may be under way at once.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that one permit stands for.
const UNIT: u64 = 1024;

/// A bound for what is sent at once, `uploads.maxInFlightBytes`.
///
/// Who has a part of it waits for no other part: so nobody waits for ever.
#[derive(Debug)]
pub(super) struct Budget {
    free: Semaphore,
    /// Permits in all.
    all: u32,
}

impl Budget {
    /// A bound of so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let most = u64::from(u32::MAX).min(Semaphore::MAX_PERMITS as u64);
        let all = (bytes / UNIT).clamp(1, most) as u32;
        Self {
            free: Semaphore::new(all as usize),
            all,
        }
    }

    /// Room for so many bytes, until it is dropped. What is larger than all there is goes alone.
    pub(super) async fn take(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let permits = bytes.div_ceil(UNIT).clamp(1, u64::from(self.all)) as u32;
        // It is never closed.
        self.free.acquire_many(permits).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_more_than_the_bound_is_under_way_and_what_is_larger_goes_alone() {
        let budget = Budget::new(10 * 1024);
        let small = budget.take(4 * 1024).await;
        let other = budget.take(6 * 1024).await;
        let soon = Duration::from_millis(20);
        tokio::time::timeout(soon, budget.take(1)).await.unwrap_err();
        drop(other);
        tokio::time::timeout(soon, budget.take(1 << 40))
            .await
            .unwrap_err();
        drop(small);
        let huge = budget.take(1 << 40).await;
        tokio::time::timeout(soon, budget.take(0)).await.unwrap_err();
        drop(huge);
        assert!(budget.take(10 * 1024).await.is_some());
    }
}
