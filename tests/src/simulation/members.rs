//! Members that are played: each is the agent's own, with its own name, credentials and connection. Only its eyes are not
//! real.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use scanguard::{
    clock::Clock,
    fleet::{
        Told,
        member::{Known, Member},
        metrics::FleetMetrics,
        settings::Settings,
    },
    observe::{seen::Seen, tools::SynTools},
};
use scanguard_common::address::Address;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};

/// What a member is told.
enum Order {
    See(Box<Seen>, bool),
    IsConnected(oneshot::Sender<bool>),
}

/// A decision as it arrived at a member.
pub struct Arrival {
    /// The number of the member.
    pub member: u32,
    /// It.
    pub told: Told,
    /// When.
    pub at: Instant,
}

/// All members.
pub struct Members {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    tasks: JoinSet<()>,
}

/// How many connect in a second.
const A_SECOND: u64 = 400;
/// How long all may take to connect after the last one began to.
const CONNECTED: Duration = Duration::from_secs(60);

impl Members {
    /// Starts them.
    ///
    /// # Errors
    /// They do not get a connection.
    pub async fn start(
        members: Vec<(Settings, IpAddr)>,
        metrics: &Arc<FleetMetrics>,
        arrivals: &mpsc::UnboundedSender<Arrival>,
    ) -> Result<Self> {
        let clock = Clock::start();
        let tools = Arc::new(SynTools::default());
        let mut all = Self { orders: Vec::new(), tasks: JoinSet::new() };
        for (number, (settings, own)) in (0u32..).zip(members) {
            let (order, orders) = mpsc::unbounded_channel();
            let mut member = Member::start(&settings, clock, Arc::clone(metrics));
            member.set_own(std::iter::once(own));
            all.orders.push(order);
            all.tasks.spawn(run(number, member, orders, arrivals.clone(), Arc::clone(&tools)));
            sleep(Duration::from_millis(1_000 / A_SECOND)).await;
        }
        let deadline = Instant::now() + CONNECTED;
        for order in &all.orders {
            loop {
                let (answer, answered) = oneshot::channel();
                order.send(Order::IsConnected(answer)).ok().context("a member has ended")?;
                if answered.await? {
                    break;
                }
                ensure!(Instant::now() < deadline, "not all members are connected");
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(all)
    }

    /// A member sees something.
    pub fn see(&self, member: u32, seen: Seen, proven: bool) {
        if let Some(order) = self.orders.get(member as usize) {
            // One that has ended sees nothing.
            let _ = order.send(Order::See(Box::new(seen), proven));
        }
    }

    /// Ends all.
    pub fn end(mut self) {
        self.tasks.abort_all();
    }
}

async fn run(
    number: u32,
    mut member: Member,
    mut orders: mpsc::UnboundedReceiver<Order>,
    arrivals: mpsc::UnboundedSender<Arrival>,
    tools: Arc<SynTools>,
) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::See(seen, proven)) => {
                    let known = Known {
                        net: &|source: &Address| IpNet::from(source.to_ip()),
                        proven: &|_| proven,
                        tools: &tools,
                        flooded: false,
                    };
                    member.see((vec![*seen], 0), &known);
                }
                Some(Order::IsConnected(answer)) => {
                    let _ = answer.send(member.status().is_some_and(|status| status.connected));
                }
                None => return,
            },
            told = member.next() => {
                let _ = arrivals.send(Arrival { member: number, told, at: Instant::now() });
            }
        }
    }
}
