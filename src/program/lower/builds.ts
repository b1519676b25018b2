/** @file The graphs of a job's stages, each built once per number of samples, and the variants of them that devices run. */
import { cached } from '../../core/cached.ts';
import { simplify } from '../../graph/passes/index.ts';
import type { SplitBackward } from '../../graph/split-backward.ts';
import type { Graph } from '../../graph/types.ts';
import { stageGraph } from '../../nn/chain.ts';
import { splitStage, type TrainingStage, trainingStage } from '../stage.ts';
import { type GraphId, graphId } from '../types.ts';
import type { Job, Stage } from './job.ts';
import type { Route } from './routes.ts';
import { type Join, type Part, wire } from './wire.ts';

/** Stages of one schedule with their routes. */
export interface Routed {
	readonly stages: readonly Stage[];
	readonly routes: readonly Route[];
}

export interface Builds {
	/** A stage at so many samples; a sweep's has no backward. `routed` is the schedule that it is a stage of. */
	built(routed: Routed, stage: Stage, samples: number): TrainingStage;
	/** Its backward in two. */
	split(routed: Routed, stage: Stage, samples: number): SplitBackward | undefined;
	/** Whether the stage, which reads the route's value, gives a gradient back for it. */
	givesGradient(routed: Routed, stage: Stage, route: Route): boolean;
	/** A graph as a device runs it. `name` and `samples` say which one it is. */
	variant(
		name: string,
		samples: number,
		graph: Graph,
		wiring: { readonly joins: readonly Join[]; readonly parts: readonly Part[]; readonly outputs: Graph['outputs'] },
	): { readonly id: GraphId; readonly graph: Graph };
	/** Adds a graph that no stage has. */
	add(name: string, make: () => Graph): GraphId;
	readonly graphs: ReadonlyMap<GraphId, Graph>;
}

/** Nothing built yet: graphs of stages are made when first asked for, once per number of samples. */
export function createBuilds(job: Job): Builds {
	const { recompute = 'views' } = job.layout;
	const built = new Map<string, TrainingStage>();
	const splits = new Map<string, SplitBackward | undefined>();
	const variants = new Map<string, Map<string, GraphId>>();
	const graphs = new Map<GraphId, Graph>();
	const keyOf = ({ number, sweep }: Stage, samples: number) => `${number} ${sweep} ${samples}`;
	const build = (routed: Routed, stage: Stage, samples: number): TrainingStage => {
		const trace = job.trace(stage);
		if (!stage.sweep) {
			const back = routed.routes.filter((route) => route.children.get(stage)?.some((child) => builds.givesGradient(routed, child, route)));
			return trainingStage(trace, ...stage.layers, samples, new Set(back.map(({ id }) => id)), trace.outputs, recompute);
		}
		const raw = stageGraph(trace, ...stage.layers, samples);
		const forward = simplify(raw.graph);
		return { stage: raw, forward, backward: undefined, saved: [], inputGrads: [], outputGrads: [], weightGrads: [] };
	};
	const builds: Builds = {
		graphs,
		built: (routed, stage, samples) => cached(built, keyOf(stage, samples), () => build(routed, stage, samples)),
		split: (routed, stage, samples) =>
			cached(splits, keyOf(stage, samples), () => splitStage(builds.built(routed, stage, samples), recompute)),
		givesGradient(routed, stage, route) {
			if (stage.sweep || route.fedBackAs !== undefined) return false;
			const [from, to] = job.rows(stage.rank, 0);
			return builds.built(routed, stage, to - from).inputGrads.some(([id]) => id === route.id);
		},
		variant(name, samples, graph, { joins, parts, outputs }) {
			const known = cached(variants, name, () => new Map<string, GraphId>());
			const terms = joins.map(({ value, terms: all }) => [value.name, all.map((pieces) => pieces.map(({ name: n, rows }) => [n, rows]))]);
			const key = JSON.stringify([samples, terms, parts, outputs]);
			const id = cached(known, key, () => {
				const fresh = graphId(known.size === 0 ? name : `${name}.${known.size}`);
				graphs.set(fresh, wire(graph, joins, parts, outputs));
				return fresh;
			});
			return { id, graph: graphs.get(id)! };
		},
		add(name, make) {
			const id = graphId(name);
			cached(graphs, id, make);
			return id;
		},
	};
	return builds;
}
