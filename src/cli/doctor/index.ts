/** @file The doctor's checks in order, and how one is run. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { Context } from '../command.ts';
import { checkDisk, checkFolder } from './disk.ts';
import { checkData, checkSharp } from './images.ts';
import { checkCores, checkMemory, checkNode } from './machine.ts';
import { checkOrt, checkSpeed } from './ort.ts';

/** `warn`: works, but worse than it could. `fail`: something needed is missing. */
export interface Finding {
	readonly status: 'ok' | 'warn' | 'fail';
	readonly text: string;
	/** What to do. */
	readonly hint?: string;
	/** For programs. */
	readonly values?: Readonly<Record<string, unknown>>;
}

/** One question to the machine. A check that throws has failed. */
export interface Check {
	readonly name: string;
	check(context: Context): Finding | Promise<Finding>;
}

export const checks: readonly Check[] = [
	{ name: 'Node.js', check: checkNode },
	{ name: 'cores', check: checkCores },
	{ name: 'memory', check: checkMemory },
	{ name: 'ONNX Runtime', check: checkOrt },
	{ name: 'speed', check: checkSpeed },
	{ name: 'images', check: checkSharp },
	{ name: 'data sets', check: checkData },
	{ name: 'working folder', check: checkFolder },
	{ name: 'disk', check: checkDisk },
];

/** Asks one question; an error is a finding, too. */
export async function runCheck({ name, check }: Check, context: Context): Promise<Finding & { readonly name: string }> {
	try {
		return { name, ...(await check(context)) };
	} catch (error) {
		const hint = error instanceof DiffusionPipeError ? error.parts.hint : undefined;
		const text = (error instanceof Error ? error.message : String(error)).split('\n  try:')[0]!;
		return { name, status: 'fail', text, ...(hint === undefined ? {} : { hint }) };
	}
}
