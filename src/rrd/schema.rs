//! Data sources and archives of the round-robin files, as librrd takes them. Other nodes and the
//! graphs of the web interface rely on them: they never change for a directory that exists.

use crate::status::RrdSchema;
use std::ffi::CString;

/// Seconds between two values.
pub(super) const STEP: u32 = 60;

/// One column of a file.
enum Source {
    /// A value as it is.
    Gauge(&'static str),
    /// A counter, of which the rate is kept.
    Derive(&'static str),
}

use Source::{Derive, Gauge};

const NODE: &[Source] = &[
    Gauge("loadavg"),
    Gauge("maxcpu"),
    Gauge("cpu"),
    Gauge("iowait"),
    Gauge("memtotal"),
    Gauge("memused"),
    Gauge("swaptotal"),
    Gauge("swapused"),
    Gauge("roottotal"),
    Gauge("rootused"),
    Derive("netin"),
    Derive("netout"),
    Gauge("memavailable"),
    Gauge("arcsize"),
    Gauge("pressurecpusome"),
    Gauge("pressureiosome"),
    Gauge("pressureiofull"),
    Gauge("pressurememorysome"),
    Gauge("pressurememoryfull"),
];

const VM: &[Source] = &[
    Gauge("maxcpu"),
    Gauge("cpu"),
    Gauge("maxmem"),
    Gauge("mem"),
    Gauge("maxdisk"),
    Gauge("disk"),
    Derive("netin"),
    Derive("netout"),
    Derive("diskread"),
    Derive("diskwrite"),
    Gauge("memhost"),
    Gauge("pressurecpusome"),
    Gauge("pressurecpufull"),
    Gauge("pressureiosome"),
    Gauge("pressureiofull"),
    Gauge("pressurememorysome"),
    Gauge("pressurememoryfull"),
];

const STORAGE: &[Source] = &[Gauge("total"), Gauge("used")];

/// Steps per row, and rows: a day, a month, a year, ten years.
const SPANS: [(u32, u32); 4] = [(1, 1440), (30, 1440), (360, 1440), (10080, 570)];

fn sources(schema: RrdSchema) -> &'static [Source] {
    match schema {
        RrdSchema::Node => NODE,
        RrdSchema::Vm => VM,
        RrdSchema::Storage => STORAGE,
    }
}

/// The definitions that a file is made with.
pub(super) fn definitions(schema: RrdSchema) -> Vec<CString> {
    let sources = sources(schema).iter().map(|source| match source {
        Gauge(name) => format!("DS:{name}:GAUGE:120:0:U"),
        Derive(name) => format!("DS:{name}:DERIVE:120:0:U"),
    });
    let archives = ["AVERAGE", "MAX"].into_iter().flat_map(|function| {
        SPANS.iter().map(move |(steps, rows)| format!("RRA:{function}:0.5:{steps}:{rows}"))
    });
    let no_nul = |text: String| CString::new(text).expect("a definition has no NUL");
    sources.chain(archives).map(no_nul).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_mapping_and_schema_agree() {
        for schema in [RrdSchema::Node, RrdSchema::Vm, RrdSchema::Storage] {
            assert_eq!(sources(schema).len(), schema.columns(), "{schema:?}");
        }
    }
}
