/** @file Reverse-mode differentiation as a graph pass, and the split of the result into forward and backward graphs. */
import { DiffusionPipeError } from '../core/errors.ts';
import { createBuilder, type GraphBuilder } from './builder.ts';
import { checkGraph } from './check.ts';
import { extract } from './extract.ts';
import { readAttributes } from './op.ts';
import { ops } from './ops/index.ts';
import { isFloat } from './ops/shared.ts';
import { runPasses, simplify } from './passes/index.ts';
import { leanSiluGradients } from './passes/silu-gradient.ts';
import { leanSoftmaxGradients } from './passes/softmax-gradient.ts';
import { chooseSaved, type Recompute } from './saved.ts';
import { type Graph, type Value, type ValueName, valueNamed } from './types.ts';

/**
 * Adds the backward nodes of everything built so far to `g`: the gradient of sum(outputs * grads) for each of `wrt`
 * (undefined where nothing flows). One rule per operator, from the operator table.
 */
export function gradients(
	g: GraphBuilder,
	outputs: readonly { value: Value; grad: Value }[],
	wrt: readonly Value[],
): (Value | undefined)[] {
	const forward = [...g.nodes()];
	const active = new Set<ValueName>(wrt.map((v) => v.name));
	const known = new Map<ValueName, Value>();
	const snapshot = g.finish([]).values;
	const lookup = (name: ValueName) => known.get(name) ?? snapshot.get(name)!;
	for (const node of forward) {
		if (ops[node.op].vjp === 'none') continue;
		if (!node.inputs.some((i) => i !== '' && active.has(i))) continue;
		for (const o of node.outputs) if (isFloat(lookup(o).dtype)) active.add(o);
	}
	const pending = new Map<ValueName, Value[]>();
	const give = (to: ValueName, grad: Value) => {
		const list = pending.get(to);
		if (list) list.push(grad);
		else pending.set(to, [grad]);
	};
	for (const { value, grad } of outputs) if (active.has(value.name)) give(value.name, grad);
	const total = (name: ValueName): Value | undefined => {
		const list = pending.get(name);
		if (!list) return undefined;
		const sum = list.reduce((a, b) => g.add(a, b));
		pending.set(name, [sum]);
		return sum;
	};
	for (let k = forward.length - 1; k >= 0; k--) {
		const node = forward[k]!;
		const def = ops[node.op];
		if (!node.outputs.some((o) => active.has(o) && pending.has(o))) continue;
		const { vjp } = def;
		if (typeof vjp === 'string') {
			throw new DiffusionPipeError('graph', `operator ${node.op} has no gradient (${vjp})`, { place: node.scope || 'differentiate' });
		}
		g.scope(node.scope || 'grad', () => {
			const grads = node.outputs.map((o) => (active.has(o) ? total(o) : undefined));
			const inputs = node.inputs.map((i) => (i === '' ? undefined : lookup(i)));
			const result = vjp({
				g,
				inputs,
				outputs: node.outputs.map(lookup),
				grads,
				needs: node.inputs.map((i) => i !== '' && active.has(i)),
				attributes: readAttributes(node.op, def.attributes, node.attributes),
				rawAttributes: node.attributes,
				input: (i) => inputs[i] ?? missing(node.op, `input ${i}`),
				grad: () => grads[0] ?? missing(node.op, 'the gradient of output 0'),
				constant: (i) => (inputs[i] ? g.constantOf(inputs[i]) : undefined),
			});
			node.inputs.forEach((name, i) => {
				const grad = result[i];
				if (grad && name !== '' && active.has(name)) give(name, grad);
			});
		});
	}
	return wrt.map((v) => total(v.name));
}

function missing(op: string, what: string): never {
	throw new DiffusionPipeError('internal', `gradient rule asked for ${what}, which is not there`, { place: op });
}

export interface DifferentiateOptions {
	/** Outputs that receive a gradient, as input `grad.<output>` of the backward graphs. */
	readonly outputs: readonly ValueName[];
	/** Scalar outputs whose gradient is the constant 1 (losses). */
	readonly losses?: readonly ValueName[];
	/** Graph inputs whose gradients are wanted for the stage before. */
	readonly inputs: readonly ValueName[];
	/** Graph inputs that are parameters: wanted by the optimiser, and never counted as saved. */
	readonly weights: readonly ValueName[];
	/** What the backward graphs may compute again rather than have saved. Default 'views'. */
	readonly recompute?: Recompute;
	/** Graph inputs present for other reasons (parameters not trained): never counted as saved. */
	readonly resident?: readonly ValueName[];
}

/** The graphs of a stage, and what passes between them. Gradients are outputs named `grad.<value>`. */
export interface Differentiated {
	/** The given outputs, then the saved values that are not inputs. */
	readonly forward: Graph;
	/** Inputs and inner values the backward graphs read, beside resident parameters. */
	readonly saved: readonly ValueName[];
	/** Gradients of `inputs`, then of `weights`, without the unreached. `splitBackward` parts them. */
	readonly backward: Graph;
	/** Wanted gradients that no path reaches: zero. */
	readonly unreached: readonly ValueName[];
}

/** Name of the gradient of a value. */
export function gradName(name: string): ValueName {
	return `grad.${name}` as ValueName;
}

/** Forms of gradients that need more than one operator to be seen, and change what is worth saving. */
const leanGradients = { 'softmax gradients': leanSoftmaxGradients, 'silu gradients': leanSiluGradients };

/** Forward and backward graphs of `graph`, with an explicit, minimal set of saved values. */
export function differentiate(graph: Graph, options: DifferentiateOptions): Differentiated {
	const { outputs, losses = [], inputs, weights, recompute = 'views', resident = [] } = options;
	const g = createBuilder(`${graph.name}.joint`, graph);
	const gradInputs: ValueName[] = [];
	const seeds = [
		...outputs.map((name) => {
			const value = valueNamed(graph, name);
			const grad = g.input(gradName(name), value.dtype, value.shape);
			gradInputs.push(grad.name);
			return { value, grad };
		}),
		...losses.map((name) => {
			const value = valueNamed(graph, name);
			return { value, grad: g.expand(g.scalar(1, value.dtype), value.shape) };
		}),
	];
	const wanted = [...inputs, ...weights];
	const results = gradients(
		g,
		seeds,
		wanted.map((n) => valueNamed(graph, n)),
	);
	const unreached = wanted.filter((_, i) => !results[i]);
	const named = new Map<ValueName, ValueName>();
	wanted.forEach((name, i) => {
		const r = results[i];
		if (r) named.set(name, r.name);
	});
	const joint = g.finish([...results.flatMap((r) => (r ? [r] : []))]);
	const renamed = runPasses(simplify(renameOutputs(joint, named, graph.outputs)), leanGradients);
	const inputGrads = inputs.filter((n) => named.has(n)).map(gradName);
	const weightGrads = weights.filter((n) => named.has(n)).map(gradName);
	const all = [...inputGrads, ...weightGrads];
	const free = new Set<ValueName>([...weights, ...resident, ...gradInputs]);
	const forwardNames = new Set(graph.nodes.flatMap((n) => n.outputs));
	const saved = chooseSaved(renamed, forwardNames, all, free, recompute);
	const given = [...saved, ...gradInputs, ...weights, ...resident];
	const inner = saved.filter((n) => !graph.inputs.includes(n));
	const forward = extract(
		renamed,
		`${graph.name}.forward`,
		graph.inputs,
		[...graph.outputs, ...inner.filter((n) => !graph.outputs.includes(n))],
		{ keepInputs: true },
	);
	const backward = extract(renamed, `${graph.name}.backward`, given, all);
	return {
		forward: checkGraph(forward, 'forward extraction'),
		saved,
		backward: checkGraph(backward, 'backward extraction'),
		unreached,
	};
}

/** Gives each wanted gradient its own value `grad.<name>` (an Identity where it is an input or shared) and adds the forward outputs. */
function renameOutputs(joint: Graph, named: ReadonlyMap<ValueName, ValueName>, forwardOutputs: readonly ValueName[]): Graph {
	const values = new Map(joint.values);
	const nodes = [...joint.nodes];
	const outputs: ValueName[] = [...forwardOutputs];
	const producers = new Map(nodes.flatMap((n, i) => n.outputs.map((o) => [o, i] as const)));
	const taken = new Set<ValueName>();
	const rename = new Map<ValueName, ValueName>();
	for (const [name, result] of named) {
		const target = gradName(name);
		if (values.has(target)) throw new DiffusionPipeError('graph', `value ${target} exists already`, { place: `graph ${joint.name}` });
		outputs.push(target);
		values.set(target, { ...values.get(result)!, name: target });
		if (producers.has(result) && !taken.has(result)) {
			taken.add(result);
			rename.set(result, target);
		} else {
			nodes.push({ op: 'Identity', inputs: [result], outputs: [target], attributes: {}, scope: '' });
		}
	}
	const map = <T extends ValueName | ''>(n: T): T => (rename.get(n as ValueName) as T | undefined) ?? n;
	for (const old of rename.keys()) values.delete(old);
	return {
		...joint,
		outputs,
		values,
		nodes: nodes.map((n) => ({ ...n, inputs: n.inputs.map(map), outputs: n.outputs.map(map) })),
	};
}
