/**
 * @file Counts the work of a graph: forward, and both parts of the backward as derivatives are known to cost, since an accelerator's kernels for
 * gradients are not ours. Of matrix products and convolutions the gradient of each operand costs what the forward does.
 */
import { sizeOf } from '../../core/tensor.ts';
import { readAttributes } from '../../graph/op.ts';
import { activationOps } from '../../graph/ops/activation.ts';
import { binaryOps } from '../../graph/ops/binary.ts';
import { compareOps } from '../../graph/ops/compare.ts';
import { ops } from '../../graph/ops/index.ts';
import { unaryOps } from '../../graph/ops/unary.ts';
import { type Graph, type Node, type ValueName, valueNamed } from '../../graph/types.ts';
import { attentionRegions } from './attention.ts';
import { noWork, type PassWork } from './work.ts';

/** What of a graph is a parameter, and where gradients go. */
export interface CountOptions {
	/** Graph inputs that are parameters. */
	readonly parameters: ReadonlySet<string>;
	/** Parameters that are trained. */
	readonly trained: ReadonlySet<string>;
	/** Graph inputs whose gradient is wanted. */
	readonly gradients: ReadonlySet<string>;
}

export interface GraphWork {
	readonly forward: PassWork;
	readonly backwardInput: PassWork;
	readonly backwardWeight: PassWork;
}

/**
 * Attention kernels run the score product once more in the backward in place of keeping the scores, so 5 products stand against 2 (Dao et al.,
 * 2205.14135, appendix B).
 */
const attentionBackward = 5 / 2;

const elementwise: ReadonlySet<string> = new Set([unaryOps, activationOps, binaryOps, compareOps].flatMap((family) => Object.keys(family)));
/** Their gradients are those of their results: nothing is computed. */
const linear: ReadonlySet<string> = new Set(['Add', 'Sub', 'Identity', 'Cast']);
/** Kernels read strided operands, so these cost nothing by themselves. */
const moves: ReadonlySet<string> = new Set(['Transpose', 'Split', 'Slice', 'Expand']);

/** Sums up a pass. */
type Tally = { -readonly [K in keyof PassWork]: number };

/**
 * Work of one run of `graph` at one sample. Elementwise operators in a row are one pass over memory. Work on parameters alone (tables of positions,
 * slices of weights) is left out: it does not grow with the batch and is done once.
 */
export function countGraph(graph: Graph, options: CountOptions): GraphWork {
	const counts = { forward: { ...noWork } as Tally, backwardInput: { ...noWork } as Tally, backwardWeight: { ...noWork } as Tally };
	const flow = flowOf(graph, options);
	const size = (name: ValueName) => sizeOf(valueNamed(graph, name).shape);
	const total = (names: Iterable<ValueName>) => [...names].reduce((sum, name) => sum + size(name), 0);
	const root = rootsOf(graph);
	/** How many gradients meet at a value. */
	const meeting = new Map<ValueName, number>();
	const meet = (names: Iterable<ValueName>) => {
		for (const name of names) meeting.set(name, (meeting.get(name) ?? 0) + 1);
	};
	const pass = (tally: Tally, elements: number) => {
		tally.passElements += elements;
		tally.kernels += 1;
	};
	/** Where a gradient of `names` is computed: with the weights' when it leads to weights alone. */
	const back = (names: readonly ValueName[]) => (names.some((n) => flow.toInput.has(n)) ? counts.backwardInput : counts.backwardWeight);
	/** Distinct values per sample among `names`, seen through reshapes. */
	const samplesOf = (names: readonly (ValueName | '')[]) =>
		new Set(names.flatMap((n) => (n !== '' && flow.perSample.has(n) ? [root(n)] : [])));
	const weightsOf = (names: readonly (ValueName | '')[]) =>
		names.filter((n): n is ValueName => n !== '' && flow.weights.has(n) && !graph.constants.has(n));

	const regions = attentionRegions(graph, flow.perSample);
	const attended = new Set(regions.flatMap((r) => r.nodes));
	for (const { inputs, output, products } of regions) {
		const macs = products.reduce((sum, node) => sum + macsOfNode(graph, node), 0);
		const elements = total(inputs) + size(output);
		const run = (tally: Tally, factor: number, moved: number) => {
			tally.attentionMacs += factor * macs;
			tally.productElements += moved;
			tally.kernels += 1;
		};
		run(counts.forward, 1, elements);
		if (!flow.gradient.has(output)) continue;
		run(back(inputs), attentionBackward, 2 * elements);
		meet(samplesOf(inputs.filter((n) => flow.gradient.has(n))));
	}

	const product = (node: Node) => {
		const output = node.outputs[0]!;
		const macs = macsOfNode(graph, node);
		const kind = kindOf(graph, node);
		const samples = node.inputs.slice(0, 2).filter((n): n is ValueName => n !== '' && flow.perSample.has(n));
		const weights = weightsOf(node.inputs.slice(0, 2));
		const run = (tally: Tally, elements: number) => {
			tally[kind] += macs;
			tally.productElements += elements;
			tally.weightElements += total(weights);
			tally.kernels += 1;
		};
		run(counts.forward, total(samples) + size(output));
		if (!flow.gradient.has(output)) return;
		for (const operand of samples) {
			if (!flow.gradient.has(operand)) continue;
			run(back([operand]), total(samples) + size(output));
			meet([root(operand)]);
		}
		if (weights.some((w) => flow.gradient.has(w))) run(counts.backwardWeight, total(samples) + size(output));
		const bias = node.inputs[2];
		if (bias && flow.gradient.has(bias)) pass(counts.backwardWeight, size(output));
	};

	/** Nodes that make one pass over memory. */
	const together = (nodes: readonly Node[]) => {
		const made = new Set(nodes.flatMap((n) => n.outputs));
		const all = nodes.flatMap((n) => n.inputs).filter((n) => n === '' || !made.has(n));
		const inputs = samplesOf(all);
		const outputs = [...made].filter((o) => !flow.readWithin(o, nodes));
		pass(counts.forward, total(inputs) + total(outputs));
		const flowing = outputs.filter((o) => flow.gradient.has(o));
		if (flowing.length === 0) return;
		const wanted = [...inputs].filter((n) => flow.gradient.has(n));
		meet(wanted);
		const out = total(flowing);
		if (nodes.every((n) => linear.has(n.op))) {
			// Only what was broadcast has to be summed up again.
			for (const name of wanted) if (size(name) < out) pass(back([name]), out);
		} else if (wanted.length > 0) pass(back(wanted), out + total(inputs) + total(wanted));
		const weights = weightsOf(all).filter((w) => flow.gradient.has(w));
		if (weights.length === 0) return;
		pass(counts.backwardWeight, nodes.every((n) => linear.has(n.op)) ? out : out + total(inputs));
		counts.backwardWeight.weightElements += total(weights);
	};

	for (const group of groupsOf(graph, attended, flow.perSample)) {
		const [node] = group as [Node];
		if (ops[node.op].macs) product(node);
		else if (ops[node.op].cost === 'view' || moves.has(node.op)) {
			// What was parted or cut comes back together in a new place.
			if (node.op !== 'Split' && node.op !== 'Slice') continue;
			const flowing = node.outputs.filter((o) => flow.gradient.has(o));
			if (flowing.length === 0) continue;
			pass(back(node.inputs as ValueName[]), total(flowing) + size(node.inputs[0] as ValueName));
			meet(samplesOf(node.inputs));
		} else together(group);
	}
	meet([...new Set(graph.outputs.map(root))].filter((n) => flow.gradient.has(n)));
	for (const [name, times] of meeting) {
		if (times > 1 && flow.perSample.has(name)) pass(back([name]), (times + 1) * size(name));
	}
	return counts;
}

function macsOfNode(graph: Graph, node: Node): number {
	const def = ops[node.op];
	const types = node.inputs.map((n) => (n === '' ? undefined : valueNamed(graph, n)));
	const outputs = node.outputs.map((n) => valueNamed(graph, n));
	return def.macs?.(types, outputs, readAttributes(node.op, def.attributes, node.attributes)) ?? 0;
}

function kindOf(graph: Graph, node: Node): 'convMacs' | 'matmulMacs' {
	if (node.op !== 'Conv' && node.op !== 'ConvTranspose') return 'matmulMacs';
	const window = valueNamed(graph, node.inputs[1] as ValueName).shape.slice(2);
	return sizeOf(window) > 1 ? 'convMacs' : 'matmulMacs';
}

/** What depends on what. */
interface Flow {
	/** Values that depend on the sample. */
	readonly perSample: ReadonlySet<ValueName>;
	/** Values that depend on parameters alone. */
	readonly weights: ReadonlySet<ValueName>;
	/** Values through which a wanted gradient passes. */
	readonly gradient: ReadonlySet<ValueName>;
	/** Those of them through which the gradient of a graph input passes that is no parameter. */
	readonly toInput: ReadonlySet<ValueName>;
	/** Whether `nodes` are all that reads `value`. */
	readWithin(value: ValueName, nodes: readonly Node[]): boolean;
}

function flowOf(graph: Graph, { parameters, trained, gradients }: CountOptions): Flow {
	const perSample = new Set<ValueName>(graph.inputs.filter((n) => !parameters.has(n)));
	const weights = new Set<ValueName>(graph.inputs.filter((n) => parameters.has(n)));
	const gradient = new Set<ValueName>(graph.inputs.filter((n) => trained.has(n) || gradients.has(n)));
	const toInput = new Set<ValueName>(graph.inputs.filter((n) => gradients.has(n)));
	const readers = new Map<ValueName, Node[]>();
	for (const node of graph.nodes) {
		for (const i of node.inputs) if (i !== '') readers.set(i, [...(readers.get(i) ?? []), node]);
		const set = node.inputs.some((i) => i !== '' && perSample.has(i)) ? perSample : weights;
		for (const o of node.outputs) set.add(o);
		if (ops[node.op].vjp === 'none') continue;
		for (const flow of [gradient, toInput]) {
			if (node.inputs.some((i) => i !== '' && flow.has(i))) for (const o of node.outputs) flow.add(o);
		}
	}
	const outputs = new Set(graph.outputs);
	const readWithin = (value: ValueName, nodes: readonly Node[]) =>
		// A second result that nobody asked for, as a norm's statistics, is not written.
		!outputs.has(value) && (readers.get(value) ?? []).every((r) => nodes.includes(r));
	return { perSample, weights, gradient, toInput, readWithin };
}

/** The value that another one is a reshape of. */
function rootsOf(graph: Graph): (name: ValueName) => ValueName {
	const roots = new Map<ValueName, ValueName>();
	const root = (name: ValueName) => roots.get(name) ?? name;
	for (const node of graph.nodes) {
		if (ops[node.op].cost !== 'view' && node.op !== 'Transpose') continue;
		roots.set(node.outputs[0]!, root(node.inputs[0] as ValueName));
	}
	return root;
}

/** Nodes that work on samples, elementwise ones joined with the one they are the only input of; in order of their first node. */
function groupsOf(graph: Graph, without: ReadonlySet<Node>, perSample: ReadonlySet<ValueName>): Node[][] {
	const outputs = new Set(graph.outputs);
	const readers = new Map<ValueName, Set<Node>>();
	for (const node of graph.nodes) for (const i of node.inputs) if (i !== '') readers.set(i, (readers.get(i) ?? new Set()).add(node));
	const groups = new Map<Node, Node[]>();
	for (const node of graph.nodes.toReversed()) {
		if (without.has(node) || !node.outputs.some((o) => perSample.has(o))) continue;
		const next = [...new Set(node.outputs.flatMap((o) => [...(readers.get(o) ?? [])]))];
		const joins =
			next.length === 1 && elementwise.has(node.op) && elementwise.has(next[0]!.op) && !node.outputs.some((o) => outputs.has(o));
		const group = (joins && groups.get(next[0]!)) || [];
		group.unshift(node);
		groups.set(node, group);
	}
	return [...new Set(groups.values())].toReversed();
}
