/** @file Which device of the cluster holds what: pipelines side by side, or the copies of a stage side by side. */
import { cached } from '../../core/cached.ts';
import type { Layout } from '../types.ts';
import { allReduceMs, transferMs } from './links.ts';
import type { Cluster } from './types.ts';

/** A run of devices within a pipeline: `count` of them from `offset`. */
export interface Place {
	readonly offset: number;
	readonly count: number;
}

/** Where the devices of every pipeline stand, and what moving bytes between places costs. */
export interface Places {
	/** Device numbers of a place in pipeline `pipeline`. */
	devices(place: Place, pipeline: number): readonly number[];
	/** `hopMs` as the greatest of some lines over bytes, for those who ask often. */
	hopLines(from: Place, to: Place): readonly Line[];
	/** ms to hand `bytes` (of a whole micro-batch) from one place to another: each device sends its samples to those that need them; the slowest pair counts. */
	hopMs(bytes: number, from: Place, to: Place): number;
	/** ms to sum `bytes` over the copies of a place in all pipelines. */
	syncMs(bytes: number, place: Place): number;
	/** The same as a line over bytes. */
	syncLine(place: Place): Line;
}

/** The device number of the i-th device of a place in a pipeline, where there are `pipelines` pipelines of `devices` devices each. */
export function deviceNumbering(layout: Layout, pipelines: number, devices: number): (place: Place, pipeline: number, i: number) => number {
	return ({ offset, count }, pipeline, i) =>
		layout === 'pipelines' ? pipeline * devices + offset + i : offset * pipelines + pipeline * count + i;
}

/** The places of `pipelines` pipelines of `devices` devices each. */
export function placesOf(cluster: Cluster, layout: Layout, pipelines: number, devices: number): Places {
	const number = deviceNumbering(layout, pipelines, devices);
	const devicesOf = (place: Place, pipeline: number) => Array.from({ length: place.count }, (_, i) => number(place, pipeline, i));
	const hops = new Map<string, readonly Line[]>();
	const syncs = new Map<string, Line>();
	const hopLines = (from: Place, to: Place) =>
		cached(hops, `${from.offset}+${from.count}>${to.offset}+${to.count}`, () => pairLines(cluster, pipelines, from, to, number));
	const syncLine = (place: Place): Line =>
		cached(syncs, `${place.offset}+${place.count}`, () => {
			const all = Array.from({ length: pipelines }, (_, pipeline) => devicesOf(place, pipeline)).flat();
			const [one, two] = [allReduceMs(cluster, 1e9, all), allReduceMs(cluster, 2e9, all)];
			return { fixed: 2 * one - two, perByte: (two - one) / 1e9 };
		});
	return {
		devices: devicesOf,
		hopLines,
		hopMs: (bytes, from, to) => alongLines(hopLines(from, to), bytes),
		syncLine,
		syncMs(bytes, place) {
			if (bytes === 0) return 0;
			const { fixed, perByte } = syncLine(place);
			return fixed + perByte * bytes;
		},
	};
}

/** The time for `bytes` along the slowest of the lines. */
export function alongLines(lines: readonly Line[], bytes: number): number {
	let slowest = 0;
	for (const { fixed, perByte } of lines) slowest = Math.max(slowest, fixed + perByte * bytes);
	return slowest;
}

/** Time as a function of bytes, ms: sums over devices are lines, a hop is as slow as the slowest of several. */
export interface Line {
	readonly fixed: number;
	readonly perByte: number;
}

/** One line per kind of pair that exchanges samples, without those that another is never faster than. */
function pairLines(
	cluster: Cluster,
	pipelines: number,
	from: Place,
	to: Place,
	number: (place: Place, pipeline: number, i: number) => number,
): readonly Line[] {
	const lines: Line[] = [];
	for (let pipeline = 0; pipeline < pipelines; pipeline++) {
		for (let i = 0; i < from.count; i++) {
			for (let j = 0; j < to.count; j++) {
				const shared = Math.min((i + 1) / from.count, (j + 1) / to.count) - Math.max(i / from.count, j / to.count);
				if (shared <= 1e-12) continue;
				const [a, b] = [number(from, pipeline, i), number(to, pipeline, j)];
				const fixed = transferMs(cluster, 0, a, b);
				const perByte = (transferMs(cluster, shared * 1e9, a, b) - fixed) / 1e9;
				if (!lines.some((line) => line.fixed >= fixed && line.perByte >= perByte)) lines.push({ fixed, perByte });
			}
		}
	}
	return lines;
}
