/** @file A backward graph in two, for schedules that part them: gradients that others wait for, and gradients of weights, which nobody does. */
import { checkGraph } from './check.ts';
import { extract } from './extract.ts';
import { chooseSaved, type Recompute } from './saved.ts';
import { type Graph, type Node, type Value, type ValueName, valueNamed } from './types.ts';

/** The two parts of a backward graph. */
export interface SplitBackward {
	/** The gradients that are not of weights, then what it hands on. Without outputs when there is no such work. */
	readonly input: Graph;
	/** Values made by `input` that `weight` reads. */
	readonly handed: readonly ValueName[];
	/** The gradients of weights. */
	readonly weight: Graph;
}

/**
 * Parts `backward` into the work that outputs other than `weightGrads` need, or that leads to the gradients of several weights (so that a first stage, which
 * gives no gradient back, is parted like the others), and the rest. What is held from the first part until the second runs, of the graph's inputs (but those
 * in `free`) and of what the first part makes, is the set with the fewest bytes; `recompute` says what the second may compute again.
 */
export function splitBackward(
	backward: Graph,
	weightGrads: readonly ValueName[],
	free: readonly ValueName[],
	recompute: Recompute = 'views',
): SplitBackward {
	const whole = asLeaves(backward, weightGrads);
	const others = whole.outputs.filter((o) => !weightGrads.includes(o));
	const first = new Set(extract(whole, 'others', whole.inputs, others).nodes.flatMap((node) => node.outputs));
	for (const name of leadingToSeveral(whole, weightGrads)) first.add(name);
	const held = chooseSaved(whole, first, weightGrads, new Set(free), recompute);
	const handed = held.filter((name) => first.has(name));
	const input = extract(whole, `${backward.name}Input`, whole.inputs, [...others, ...handed.filter((name) => !others.includes(name))]);
	const weight = extract(whole, `${backward.name}Weight`, [...new Set([...held, ...free])], weightGrads);
	return { input: checkGraph(input, 'backward-input extraction'), handed, weight: checkGraph(weight, 'backward-weight extraction') };
}

/** The graph in which no other node reads an output of `names`: such a gradient (of a bias, say) becomes a copy of the value that others read. */
function asLeaves(graph: Graph, names: readonly ValueName[]): Graph {
	const read = new Set(graph.nodes.flatMap((node) => node.inputs));
	const shared = names.filter((name) => read.has(name));
	if (shared.length === 0) return graph;
	const values = new Map<ValueName, Value>(graph.values);
	const inner = new Map<ValueName, ValueName>();
	for (const name of shared) {
		const copy = `${name}/inner` as ValueName;
		inner.set(name, copy);
		values.set(copy, { ...valueNamed(graph, name), name: copy });
	}
	const map = <T extends ValueName | ''>(n: T): T => (inner.get(n as ValueName) as T | undefined) ?? n;
	const nodes = graph.nodes.map((n): Node => ({ ...n, inputs: n.inputs.map(map), outputs: n.outputs.map(map) }));
	for (const [name, copy] of inner) nodes.push({ op: 'Identity', inputs: [copy], outputs: [name], attributes: {}, scope: '' });
	return { ...graph, nodes, values };
}

/** Values from which more than one of `ends` is computed. */
function leadingToSeveral(graph: Graph, ends: readonly ValueName[]): ValueName[] {
	const several = Symbol('several');
	const to = new Map<ValueName, ValueName | typeof several>(ends.map((name) => [name, name]));
	for (const node of [...graph.nodes].reverse()) {
		for (const o of node.outputs) {
			const end = to.get(o);
			if (end === undefined) continue;
			for (const i of node.inputs) if (i !== '') to.set(i, (to.get(i) ?? end) === end ? end : several);
		}
	}
	return graph.nodes.flatMap((node) => (node.outputs.some((o) => to.get(o) === several) ? node.outputs : []));
}
