//! A Redis Cluster: three masters, and a replica of the first.

use super::papers::Papers;
use super::redis::{ADMIN_LOGIN, Redis, Reply};
use crate::poll::eventually;
use crate::port;

/// How many masters there are.
const MASTERS: usize = 3;
/// All slots.
const SLOTS: usize = 16_384;

/// The servers beside the first one, which has the slot of all keys; dropped, all are killed.
#[derive(Debug)]
pub struct Ring {
    /// The replica of the first server, before a failover.
    pub replica: Redis,
    /// The other masters.
    pub others: Vec<Redis>,
}

/// Starts a server that is to be one of a cluster.
async fn server(papers: Option<&Papers>) -> Redis {
    let bus = port::free().to_string();
    let papers = papers.map(Papers::options).unwrap_or_default();
    let mut options = vec!["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1500"];
    options.extend(papers.iter().map(String::as_str));
    Redis::start_with(&options).await
}

impl Ring {
    /// Starts a cluster whose first server has the slot of all keys that begin with `prefix`.
    ///
    /// # Panics
    /// If it does not come about.
    pub async fn start(prefix: &str, papers: Option<&Papers>) -> (Redis, Self) {
        let first = server(papers).await;
        let ring = Self { replica: server(papers).await, others: vec![server(papers).await, server(papers).await] };
        let home = slot_of(&first, &format!("{{{prefix}}}:")).await * MASTERS / SLOTS;
        for (number, master) in ring.masters(&first).into_iter().enumerate() {
            let row = (home + number) % MASTERS;
            let bounds = [row, row + 1].map(|row| (row * SLOTS).div_ceil(MASTERS));
            master.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            master.ask(&["CLUSTER", "ADDSLOTSRANGE", &bounds[0].to_string(), &(bounds[1] - 1).to_string()]).await;
        }
        for other in ring.others.iter().chain([&ring.replica]) {
            let bus = other.option("--cluster-port").expect("its bus has a port");
            let port = other.secure_address().unwrap_or(other.address()).port().to_string();
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
        }
        ring.all_say(&first, "cluster_known_nodes:4").await;
        ring.replica.ask(&["CLUSTER", "REPLICATE", &id(&first).await]).await;
        ring.replica.follows().await;
        ring.all_say(&first, "cluster_state:ok").await;
        (first, ring)
    }

    /// Gives the slot of a name, with all keys in it, to another master; 0 is `first`.
    pub async fn move_slot(&self, first: &Redis, name: &str, to: usize) {
        let slot = slot_of(first, name).await.to_string();
        let masters = self.masters(first);
        let (from, target) = (masters[self.master_of(first, name).await], masters[to]);
        let (from_id, target_id) = (id(from).await, id(target).await);
        target.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        loop {
            let keys = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await.texts();
            if keys.is_empty() {
                break;
            }
            let port = target.address().port().to_string();
            let mut command =
                vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "AUTH2", ADMIN_LOGIN.0, ADMIN_LOGIN.1, "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            from.ask(&command).await;
        }
        for master in [target, from].into_iter().chain(masters) {
            master.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        }
    }

    /// The number of the master that has the slot of a name; 0 is `first`.
    ///
    /// # Panics
    /// If nobody has it.
    pub async fn master_of(&self, first: &Redis, name: &str) -> usize {
        let slot = i64::try_from(slot_of(first, name).await).expect("a small number");
        let Reply::List(rows) = first.ask(&["CLUSTER", "SLOTS"]).await else { panic!("no rows") };
        let port = rows.iter().find_map(|row| {
            let Reply::List(row) = row else { return None };
            let within = row[0].number()? <= slot && slot <= row[1].number()?;
            let Reply::List(master) = &row[2] else { return None };
            within.then(|| master[1].number())?
        });
        let at = |server: &&Redis| Some(i64::from(server.address().port())) == port;
        self.masters(first).iter().position(at).expect("a master has it")
    }

    /// The masters, before a failover.
    #[must_use]
    pub fn masters<'a>(&'a self, first: &'a Redis) -> Vec<&'a Redis> {
        [first].into_iter().chain(&self.others).collect()
    }

    async fn all_say(&self, first: &Redis, line: &str) {
        for server in self.masters(first).into_iter().chain([&self.replica]) {
            eventually(line, || async { server.ask(&["CLUSTER", "INFO"]).await.texts().concat().contains(line).then_some(()) })
                .await;
        }
    }
}

async fn slot_of(server: &Redis, name: &str) -> usize {
    let slot = server.ask(&["CLUSTER", "KEYSLOT", name]).await.number();
    slot.and_then(|slot| usize::try_from(slot).ok()).expect("a slot")
}

async fn id(server: &Redis) -> String {
    server.ask(&["CLUSTER", "MYID"]).await.texts().concat()
}
