use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// A closed set of label values.
///
/// Metrics take labels from such enums only: a label that a client can choose would grow the scrape without bound.
pub trait Label: Copy + 'static {
    /// Name of the label.
    const LABEL: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The value as the scrape shows it.
    fn name(self) -> &'static str;
    /// Place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Declares an enum with its label name and values.
#[macro_export]
macro_rules! label {
    ($(#[$meta:meta])* $vis:vis enum $name:ident as $label:literal { $($(#[$vmeta:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$vmeta])* $variant),+ }

        impl $crate::telemetry::Label for $name {
            const LABEL: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn name(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
            fn index(self) -> usize { self as usize }
        }
    };
}

/// One counter per value of a label, each resolved once.
#[derive(Debug, Clone)]
pub struct Counters<L: Label> {
    handles: Box<[IntCounter]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Counters<L> {
    /// Registers the family. The name is unique within the registry by construction of the metrics structs.
    pub(crate) fn register(registry: &Registry, name: &str, help: &str) -> Self {
        let family = IntCounterVec::new(Opts::new(name, help), &[L::LABEL]);
        let family = enlist(registry, family);
        let handles = L::ALL.iter().map(|value| family.with_label_values(&[value.name()])).collect();
        Self { handles, label: std::marker::PhantomData }
    }

    /// The counter of one value.
    pub fn of(&self, value: L) -> &IntCounter {
        &self.handles[value.index()]
    }
}

/// One counter per pair of values of two labels, each resolved once.
#[derive(Debug, Clone)]
pub struct CounterGrid<A: Label, B: Label> {
    handles: Box<[IntCounter]>,
    labels: std::marker::PhantomData<(A, B)>,
}

impl<A: Label, B: Label> CounterGrid<A, B> {
    /// Registers the family.
    pub(crate) fn register(registry: &Registry, name: &str, help: &str) -> Self {
        let family = enlist(registry, IntCounterVec::new(Opts::new(name, help), &[A::LABEL, B::LABEL]));
        let pairs = A::ALL.iter().flat_map(|a| B::ALL.iter().map(move |b| [a.name(), b.name()]));
        Self { handles: pairs.map(|pair| family.with_label_values(&pair)).collect(), labels: std::marker::PhantomData }
    }

    /// The counter of one pair.
    pub fn of(&self, a: A, b: B) -> &IntCounter {
        &self.handles[a.index() * B::ALL.len() + b.index()]
    }
}

/// One gauge per value of a label, each resolved once.
#[derive(Debug, Clone)]
pub struct Gauges<L: Label> {
    handles: Box<[IntGauge]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Gauges<L> {
    /// Registers the family.
    pub(crate) fn register(registry: &Registry, name: &str, help: &str) -> Self {
        let family = enlist(registry, IntGaugeVec::new(Opts::new(name, help), &[L::LABEL]));
        let handles = L::ALL.iter().map(|value| family.with_label_values(&[value.name()])).collect();
        Self { handles, label: std::marker::PhantomData }
    }

    /// The gauge of one value.
    pub fn of(&self, value: L) -> &IntGauge {
        &self.handles[value.index()]
    }
}

/// One histogram per value of a label, each resolved once.
#[derive(Debug, Clone)]
pub struct Histograms<L: Label> {
    handles: Box<[prometheus::Histogram]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Histograms<L> {
    /// Registers the family with the given upper bounds.
    pub(crate) fn register(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Self {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = enlist(registry, HistogramVec::new(options, &[L::LABEL]));
        let handles = L::ALL.iter().map(|value| family.with_label_values(&[value.name()])).collect();
        Self { handles, label: std::marker::PhantomData }
    }

    /// The histogram of one value.
    pub fn of(&self, value: L) -> &prometheus::Histogram {
        &self.handles[value.index()]
    }
}

/// Registers a collector.
///
/// # Panics
/// At start-up only, if a metric is named twice or illegally: a fault of this module, shown by any test that builds it.
#[allow(clippy::panic, reason = "names are literals of this module; every test that starts a node would show the fault")]
pub(crate) fn enlist<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = match collector {
        Ok(collector) => collector,
        Err(error) => panic!("metric cannot be made: {error}"),
    };
    match registry.register(Box::new(collector.clone())) {
        Ok(()) => collector,
        Err(error) => panic!("metric cannot be registered: {error}"),
    }
}
