/** @file The doctor: every check on this machine, and each way to fail that can be brought about. */
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checks, runCheck } from '../../src/cli/doctor/index.ts';
import { atLeast, checkNode } from '../../src/cli/doctor/machine.ts';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { fakeContext, runCli } from './context.ts';

let cwd: string;
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'doctor-'));
});
afterAll(() => rm(cwd, { recursive: true }));

describe('doctor', () => {
	it('finds this machine fit, and says so in JSON', async () => {
		const { code, out } = await runCli(['doctor', '--json'], { cwd });
		expect(code).toBe(0);
		const { ok, checks: found } = JSON.parse(out);
		expect(ok).toBe(true);
		const values = Object.fromEntries(found.map((f: { name: string; values: unknown }) => [f.name, f.values]));
		expect(Object.keys(values)).toEqual(checks.map((c) => c.name));
		expect(values['ONNX Runtime'].difference).toBeLessThan(1e-5);
		expect(values['ONNX Runtime'].version).toMatch(/^1\.\d+/);
		expect(values.speed.gflops).toBeGreaterThan(0.1);
		expect(values['data sets'].present).toContain('mnist');
		expect(await readdir(cwd)).toEqual([]);
	});

	it('tells a missing folder, with exit code 1', async () => {
		const { code, out } = await runCli(['doctor'], { cwd: join(cwd, 'gone') });
		expect(code).toBe(1);
		expect(out).toMatch(/^fail {2}working folder: .*gone: cannot write/m);
		expect(out).toMatch(/\d failed\n$/);
	});

	it.skipIf(process.getuid?.() === 0)('tells a folder that cannot be written', async () => {
		await chmod(cwd, 0o500);
		try {
			expect((await runCli(['doctor'], { cwd })).out).toMatch(/^fail {2}working folder:/m);
		} finally {
			await chmod(cwd, 0o700);
		}
	});

	it('knows an old Node.js', () => {
		expect(checkNode(undefined, '18.20.0')).toMatchObject({ status: 'fail', hint: expect.stringContaining('install Node.js') });
		expect(checkNode(undefined, '22.1.0').status).toBe('ok');
	});

	it.each([
		['20.19.0', '20.19', true],
		['20.18.9', '20.19', false],
		['21.0.0', '20.19', true],
		['20.19.0-nightly', '20.19', true],
		['9.9.9', '20.19', false],
	])('%s at least %s: %s', (found, wanted, is) => {
		expect(atLeast(found, wanted)).toBe(is);
	});

	it('takes an error in a check as a failure, with its hint', async () => {
		const context = fakeContext();
		const failing = (error: unknown) => ({
			name: 'x',
			check: () => {
				throw error;
			},
		});
		const error = new DiffusionPipeError('engine', 'no library', { place: 'here', hint: 'set DIFFUSIONPIPE_ORT' });
		expect(await runCheck(failing(error), context)).toEqual({
			name: 'x',
			status: 'fail',
			text: 'here: no library',
			hint: 'set DIFFUSIONPIPE_ORT',
		});
		expect(await runCheck(failing('odd'), context)).toEqual({ name: 'x', status: 'fail', text: 'odd' });
	});
});
