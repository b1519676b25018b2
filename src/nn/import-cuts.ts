/** @file Where a graph without layers can be cut: places that few values cross, one heavy operator or more between each two. */
import { byteSize } from '../core/tensor.ts';
import { ops } from '../graph/ops/index.ts';
import { isFloat } from '../graph/ops/shared.ts';
import { type Graph, type Node, type ValueName, valueNamed } from '../graph/types.ts';

export interface CutRules {
	/** Graph inputs that are weights: like constants, they are at hand anywhere. */
	readonly weightInputs: ReadonlySet<string>;
	/** True for a value whose first axis is the batch: only those may cross. */
	perSample(name: ValueName): boolean;
	/** Most values that may cross a cut. */
	readonly maxCrossing: number;
}

/** A run of the graph's nodes between two cuts. */
export interface Section {
	readonly nodes: readonly Node[];
	/** Values of earlier sections that are alive where it starts. */
	readonly reads: readonly ValueName[];
	/** Values made here that cross its end, and graph outputs made here. */
	readonly writes: readonly ValueName[];
}

/** A place before node `at` where the graph may be cut. */
interface Candidate {
	readonly at: number;
	readonly crossing: readonly ValueName[];
	readonly bytes: number;
	/** Heavy nodes before it. */
	readonly heavy: number;
}

/**
 * Cuts `graph` in node order. What cheap operators make of graph inputs and constants alone (masks, position angles) belongs to no section and
 * crosses nothing: whoever needs it computes it again. Between two neighbouring heavy operators at most one cut is made, where the fewest bytes
 * cross; of equal places the last, so that activations stay with the product they follow.
 */
export function cutGraph(graph: Graph, rules: CutRules): Section[] {
	const nodes = pinnedNodes(graph, rules);
	const lastUse = new Map<ValueName, number>();
	nodes.forEach((node, i) => {
		for (const name of node.inputs) if (name !== '') lastUse.set(name, i);
	});
	const best = new Map<number, Candidate>();
	const alive = new Set<ValueName>();
	let heavy = 0;
	nodes.forEach((node, i) => {
		if (ops[node.op].cost === 'heavy') heavy++;
		for (const name of node.outputs) if ((lastUse.get(name) ?? -1) > i) alive.add(name);
		for (const name of node.inputs) if (name !== '' && lastUse.get(name) === i) alive.delete(name);
		if (alive.size > rules.maxCrossing || ![...alive].every(rules.perSample)) return;
		const bytes = [...alive].reduce((sum, name) => sum + byteSize(valueNamed(graph, name)), 0);
		if (bytes <= (best.get(heavy)?.bytes ?? Number.POSITIVE_INFINITY)) best.set(heavy, { at: i + 1, crossing: [...alive], bytes, heavy });
	});
	const cuts = [...best.values()].filter((c) => c.heavy > 0 && c.heavy < heavy);
	const outputs = new Set(graph.outputs);
	return [...cuts, undefined].map((cut, i) => {
		const from = cuts[i - 1];
		const own = nodes.slice(from?.at ?? 0, cut?.at ?? nodes.length);
		const made = own.flatMap((node) => node.outputs);
		const crossing = new Set(cut?.crossing);
		return { nodes: own, reads: from?.crossing ?? [], writes: made.filter((name) => crossing.has(name) || outputs.has(name)) };
	});
}

/** Nodes that belong to one place: heavy ones, look-ups in tables of weights, and all that depends on those. */
function pinnedNodes(graph: Graph, { weightInputs }: CutRules): Node[] {
	const anywhere = new Set<ValueName>([...graph.inputs, ...graph.constants.keys()]);
	const isTable = (name: ValueName | '' | undefined) =>
		name && (graph.constants.has(name) || weightInputs.has(name)) && isFloat(valueNamed(graph, name).dtype);
	return graph.nodes.filter((node) => {
		const lookUp = (node.op === 'Gather' || node.op === 'GatherElements') && isTable(node.inputs[0]);
		if (ops[node.op].cost === 'heavy' || lookUp || !node.inputs.every((name) => name === '' || anywhere.has(name))) return true;
		for (const name of node.outputs) anywhere.add(name);
		return false;
	});
}
