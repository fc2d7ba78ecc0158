//! Which cache answers fastest: measured once, kept for later processes, and kept current by what real requests take.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use heph_common::Digest;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::backend::{RemoteError, RemoteErrorKind};
use super::cache::{Cache, Lane};
use super::lock;

/// A cache that takes longer for one probe counts as unreachable.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Probes that count, after one that opens the connection.
const PROBES: usize = 3;

/// What was measured, by [`Cache::id`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Measured {
    /// Digest of the caches' definitions.
    definitions: String,
    /// Digest of the network that the machine is on.
    network: String,
    /// Microseconds; `None` for those that did not answer.
    caches: BTreeMap<String, Option<u64>>,
}

/// What is known of the latency of caches, in a file that outlives processes.
#[derive(Debug)]
pub struct Ranking {
    file: PathBuf,
    known: Mutex<Option<Measured>>,
}

/// What a cache took.
#[derive(Clone, Debug)]
pub struct Latency {
    /// The cache.
    pub cache: Arc<Cache>,
    /// Median of three, or why there is none.
    pub took: Result<Duration, RemoteError>,
}

impl Ranking {
    /// The ranking in a file, which need not be there.
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            known: Mutex::new(None),
        }
    }

    /// Places of the caches, the fastest first; measured where that is not known for exactly these caches on this network. Those that
    /// did not answer come last.
    pub async fn order(&self, caches: &[Arc<Cache>]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..caches.len()).collect();
        if caches.len() < 2 {
            return places;
        }
        let measured = match self.recall(caches) {
            Some(measured) => measured,
            None => {
                self.measure(caches).await;
                self.recall(caches).unwrap_or_default()
            }
        };
        places.sort_by_key(|place| {
            let cache = caches.get(*place);
            let observed = cache.and_then(|cache| cache.observed());
            let known = || measured.caches.get(&cache?.id).copied().flatten();
            observed.or_else(known).unwrap_or(u64::MAX)
        });
        places
    }

    /// Measures caches, all at once, and remembers what came out.
    pub async fn measure(&self, caches: &[Arc<Cache>]) -> Vec<Latency> {
        let measured = probe_all(caches).await;
        let micros = |took: &Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let by_id = measured
            .iter()
            .map(|latency| (latency.cache.id.clone(), latency.took.as_ref().ok().map(micros)));
        self.remember(Measured {
            definitions: definitions(caches),
            network: network(),
            caches: by_id.collect(),
        });
        measured
    }

    /// Takes over what requests took since; written where that changes an order.
    pub fn refresh(&self, caches: &[Arc<Cache>]) {
        let Some(before) = self.recall(caches) else { return };
        let mut after = before.clone();
        for cache in caches {
            if let Some(micros) = cache.observed() {
                after.caches.insert(cache.id.clone(), Some(micros));
            }
        }
        if order(&before) != order(&after) {
            self.remember(after);
        }
    }

    fn recall(&self, caches: &[Arc<Cache>]) -> Option<Measured> {
        let mut known = lock(&self.known);
        if known.is_none() {
            let text = std::fs::read(&self.file).ok();
            *known = text.and_then(|text| serde_json::from_slice(&text).ok());
        }
        let is_of_these =
            |known: &&Measured| known.definitions == definitions(caches) && known.network == network();
        known.as_ref().filter(is_of_these).cloned()
    }

    fn remember(&self, measured: Measured) {
        let written = serde_json::to_vec(&measured)
            .map_err(std::io::Error::other)
            .and_then(|text| {
                let directory = self.file.parent().ok_or(std::io::ErrorKind::NotFound)?;
                std::fs::create_dir_all(directory)?;
                let unfinished = directory.join(format!(".latency-{}", crate::unique::name()));
                std::fs::write(&unfinished, text)?;
                std::fs::rename(&unfinished, &self.file)
            });
        if let Err(error) = written {
            tracing::info!("the latency of caches is not kept for later: {error}");
        }
        *lock(&self.known) = Some(measured);
    }
}

/// Measures caches, all at once, and remembers nothing.
pub async fn probe_all(caches: &[Arc<Cache>]) -> Vec<Latency> {
    let probes = caches.iter().map(|cache| async {
        Latency {
            took: probe(cache).await,
            cache: Arc::clone(cache),
        }
    });
    join_all(probes).await
}

async fn probe(cache: &Cache) -> Result<Duration, RemoteError> {
    let mut took = Vec::with_capacity(PROBES);
    for count in 0..=PROBES {
        let began = Instant::now();
        let probed = cache.request(Lane::Metadata, PROBE_LIMIT, |backend| backend.probe());
        // A cache that cannot be reached says so by itself, mostly; repetitions are within this time, too.
        timeout(PROBE_LIMIT, probed).await.unwrap_or_else(|_| {
            let message = format!("no answer within {}", heph_common::duration::Shown(PROBE_LIMIT));
            Err(RemoteError::new(RemoteErrorKind::TimedOut, message))
        })?;
        if count > 0 {
            took.push(began.elapsed());
        }
    }
    took.sort_unstable();
    Ok(took.get(PROBES / 2).copied().unwrap_or_default())
}

fn order(measured: &Measured) -> Vec<&String> {
    let mut ids: Vec<_> = measured.caches.iter().collect();
    ids.sort_by_key(|(_, micros)| micros.unwrap_or(u64::MAX));
    ids.into_iter().map(|(id, _)| id).collect()
}

fn definitions(caches: &[Arc<Cache>]) -> String {
    let mut ids: Vec<&str> = caches.iter().map(|cache| cache.id.as_str()).collect();
    ids.sort_unstable();
    Digest::of(ids.join("\n").as_bytes()).to_hex()
}

/// Names the network that the machine is on: its gateways, with their hardware addresses. Elsewhere another cache may be near.
fn network() -> String {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let neighbours = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
    Digest::of(gateways(&routes, &neighbours).as_bytes()).to_hex()
}

/// Interface, address and hardware address of each default gateway, from `proc(5)`: `net/route` and `net/arp`.
fn gateways(routes: &str, neighbours: &str) -> String {
    let mut found = String::new();
    for route in routes.lines().skip(1) {
        let fields: Vec<&str> = route.split_whitespace().collect();
        let [interface, "00000000", gateway, ..] = fields[..] else {
            continue;
        };
        let address =
            u32::from_str_radix(gateway, 16).map(|bits| std::net::Ipv4Addr::from(bits.to_ne_bytes()));
        let Ok(address) = address else { continue };
        let address = address.to_string();
        let hardware = neighbours.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.next() == Some(&address)).then(|| fields.nth(2)).flatten()
        });
        found.push_str(&format!("{interface} {address} {}\n", hardware.unwrap_or("-")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_known_by_its_gateways() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n\
                      eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        let neighbours = "IP address       HW type     Flags       HW address            Mask     Device\n\
                          192.168.0.1      0x1         0x2         aa:bb:cc:dd:ee:ff     *        eth0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(
                gateways(routes, neighbours),
                "eth0 192.168.0.1 aa:bb:cc:dd:ee:ff\n"
            );
            assert_eq!(gateways(routes, ""), "eth0 192.168.0.1 -\n");
        }
        assert_eq!(gateways("", neighbours), "");
    }
}
