/** @file What a model may use: operator sets, operators and forms of storage. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import type { OpDef } from '../op.ts';
import { isOpKind, type OpKind, ops } from '../ops/index.ts';
import type { ModelProto, NodeProto } from './schema.ts';
import { upgrades } from './upgrade.ts';

/** Opsets whose operators we know how to bring to 21. */
const oldestOpset = 7;
/** The newest operator set we read; operators of later ones may mean something else. */
export const newestOpset = 21;

/** True when we hold the operator itself or can express it by others. */
function isSupported({ opType, domain }: NodeProto): boolean {
	if (domain === '' && Object.hasOwn(upgrades, opType)) return true;
	return isOpKind(opType) && ((ops[opType] as OpDef).domain ?? '') === domain;
}

/** Throws an input error when the opset or a form of storage is not supported, or listing every operator that is not. */
export function checkSupported({ graph, opsets }: ModelProto, place: string): void {
	const opset = opsets.get('') ?? newestOpset;
	if (opset < oldestOpset || opset > newestOpset) {
		throw new DiffusionPipeError('input', 'the operator set is not supported', {
			place,
			expected: `opset ${oldestOpset} to ${newestOpset}`,
			found: `opset ${opset}`,
			hint: `export the model with opset ${newestOpset}`,
		});
	}
	if (graph.hasSparseInitializers) {
		throw new DiffusionPipeError('input', 'sparse initialisers are not supported', { place, hint: 'save the weights as dense tensors' });
	}
	const refused = new Map<string, NodeProto[]>();
	for (const node of graph.nodes) {
		if (isSupported(node)) continue;
		const name = qualified(node.opType, node.domain);
		const nodes = refused.get(name);
		if (nodes) nodes.push(node);
		else refused.set(name, [node]);
	}
	if (refused.size === 0) return;
	const lines = [...refused].map(([name, nodes]) => {
		const near = nearestName(nodes[0]!.opType, Object.keys(ops)) as OpKind | undefined;
		const more = nodes.length > 1 ? ` and ${nodes.length - 1} more` : '';
		return `${name || '(no name)'} (node ${nodeName(nodes[0]!)}${more}${near === undefined ? '' : `; nearest supported: ${qualified(near, (ops[near] as OpDef).domain)}`})`;
	});
	throw new DiffusionPipeError(
		'input',
		refused.size === 1 ? 'an operator is not supported' : `${refused.size} operators are not supported`,
		{
			place,
			expected: 'operators of ai.onnx that this project knows',
			found: lines.join(', '),
			hint: 'export the model for inference without control flow, or replace these operators before exporting',
		},
	);
}

const qualified = (opType: string, domain = '') => (domain === '' ? opType : `${domain}::${opType}`);

/** What errors call a node: its name, or that of its first output. */
export const nodeName = (node: NodeProto): string => node.name || node.outputs[0] || node.opType;
