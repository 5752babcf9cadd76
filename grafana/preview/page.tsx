// One dashboard as Grafana's own components draw it: TimeSeries, BigValue and Table of @grafana/ui, field
// configuration and reduction by @grafana/data. Defaults that Grafana's panel plugins add (they are on no
// registry) are written here; queries, macros and variables are resolved before: tests/dashboards.
import {
  applyFieldOverrides, createTheme, dateTime, FieldColorModeId, getFieldDisplayValues, ThemeContext, toDataFrame,
  VizOrientation, type DataFrame, type FieldDisplay, type GrafanaTheme2, type TimeRange,
} from '@grafana/data';
import {
  BigValue, GlobalStyles, PanelChrome, PortalContainer, Table, TimeSeries, VizRepeater, type UPlotConfigBuilder,
} from '@grafana/ui';
import { Component, useLayoutEffect, type ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import 'uplot/dist/uPlot.min.css';

type Panel = Record<string, any>;
type Drawing = {
  dashboard: { title: string; description: string; panels: Panel[] };
  frames: Record<string, object[]>; // by the panel's number
  events: { at_ms: number; title: string }[];
  mode: 'dark' | 'light';
  from_ms: number;
  to_ms: number;
  width: number;
};
type Context = { theme: GrafanaTheme2; range: TimeRange; events: Drawing['events'] };

const ROW_HEIGHT = 30; // of Grafana's grid, as is the gap
const GAP = 8;
const COLUMNS = 24;
const EVENT_COLOR = 'purple';

class Guard extends Component<{ children: ReactNode }, { failed?: Error }> {
  state: { failed?: Error } = {};
  static getDerivedStateFromError = (failed: Error) => ({ failed });
  render() {
    return this.state.failed ? <pre className="failed">{String(this.state.failed.stack)}</pre> : this.props.children;
  }
}

function framesOf(panel: Panel, raw: object[], theme: GrafanaTheme2): DataFrame[] {
  const { defaults, overrides } = panel.fieldConfig;
  const mode = panel.type === 'timeseries' ? FieldColorModeId.PaletteClassic : FieldColorModeId.Thresholds;
  const custom = panel.type === 'table' ? { cellOptions: { type: 'auto' } } : { lineInterpolation: 'linear', barAlignment: 0, barWidthFactor: 0.6 };
  const config = { color: { mode }, ...defaults, custom: { ...custom, ...defaults.custom } };
  const data = raw.map((one) => {
    const frame = toDataFrame(one);
    // As if by Grafana's registry of field options, which the panel plugins fill.
    frame.fields = frame.fields.map((field) => {
      const width = overrides.find(({ matcher }) => matcher.options === field.name)?.properties[0].value; // custom.width
      return { ...field, config: { ...config, custom: { ...config.custom, width }, ...field.config } };
    });
    return frame;
  });
  return applyFieldOverrides({
    data, theme, fieldConfig: { defaults: {}, overrides: [] }, replaceVariables: (text) => text, timeZone: 'utc',
  });
}

function Events({ config, events, theme }: { config: UPlotConfigBuilder } & Omit<Context, 'range'>) {
  useLayoutEffect(() => {
    config.addHook('draw', (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.strokeStyle = theme.visualization.getColorByName(EVENT_COLOR);
      ctx.setLineDash([4, 4]);
      for (const event of events) {
        const x = plot.valToPos(event.at_ms, 'x', true);
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
    });
  }, [config]);
  return null;
}

function Body({ panel, frames, width, height, context }: {
  panel: Panel; frames: DataFrame[]; width: number; height: number; context: Context;
}) {
  const { theme, range, events } = context;
  if (panel.type === 'table') return <Table data={frames[0]} width={width} height={height} />;
  if (panel.type === 'timeseries') {
    return (
      <TimeSeries frames={frames} structureRev={1} width={width} height={height} timeRange={range} timeZone="utc"
        legend={{ calcs: [], ...panel.options.legend }} options={panel.options}>
        {(config: UPlotConfigBuilder) => <Events config={config} events={events} theme={theme} />}
      </TimeSeries>
    );
  }
  const values = () => getFieldDisplayValues({
    data: frames, theme, reduceOptions: panel.options.reduceOptions, fieldConfig: { defaults: {}, overrides: [] },
    replaceVariables: (text) => text, sparkline: panel.options.graphMode !== 'none', timeZone: 'utc',
  });
  return (
    <VizRepeater<FieldDisplay> width={width} height={height} orientation={VizOrientation.Auto} getValues={values}
      source={frames} autoGrid renderCounter={0} itemSpacing={3}
      renderValue={({ value, width, height, count }) => (
        <BigValue value={value.display} sparkline={value.sparkline} count={count} width={width} height={height}
          theme={theme} colorMode={panel.options.colorMode} graphMode={panel.options.graphMode}
          justifyMode={panel.options.justifyMode} textMode={panel.options.textMode} wideLayout={panel.options.wideLayout} />
      )} />
  );
}

function Page({ drawing, context }: { drawing: Drawing; context: Context }) {
  const { dashboard, width } = drawing;
  const column = (width - GAP) / COLUMNS;
  const rows = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <ThemeContext.Provider value={context.theme}>
      <GlobalStyles />
      <PortalContainer />
      <div style={{ width, background: context.theme.colors.background.canvas, padding: '16px 0 8px' }}>
        <h3 style={{ margin: '0 16px' }}>{dashboard.title}</h3>
        <p style={{ margin: '4px 16px 12px', color: context.theme.colors.text.secondary }}>{dashboard.description}</p>
        <div style={{ position: 'relative', height: rows * (ROW_HEIGHT + GAP) }}>
          {dashboard.panels.map((panel) => {
            const { x, y, w, h } = panel.gridPos;
            const place = { left: GAP + x * column, top: y * (ROW_HEIGHT + GAP) };
            const frames = framesOf(panel, drawing.frames[panel.id] ?? [], context.theme);
            return (
              <div key={panel.id} data-panel={panel.title} data-type={panel.type} style={{ position: 'absolute', ...place }}>
                <Guard>
                  <PanelChrome title={panel.title} description={panel.description} width={w * column - GAP}
                    height={h * ROW_HEIGHT + (h - 1) * GAP}>
                    {(inner, high) => (
                      <Guard>
                        <Body panel={panel} frames={frames} width={inner} height={high} context={context} />
                      </Guard>
                    )}
                  </PanelChrome>
                </Guard>
              </div>
            );
          })}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

declare global { interface Window { draw: (drawing: Drawing) => void } }

window.draw = (drawing) => {
  const [from, to] = [dateTime(drawing.from_ms), dateTime(drawing.to_ms)];
  const theme = createTheme({ colors: { mode: drawing.mode } });
  const context = { theme, range: { from, to, raw: { from, to } }, events: drawing.events };
  createRoot(document.getElementById('root')!).render(<Page drawing={drawing} context={context} />);
};
