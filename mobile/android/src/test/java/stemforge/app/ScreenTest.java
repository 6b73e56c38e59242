package stemforge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import android.Manifest;
import android.app.Activity;
import android.content.Intent;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.graphics.Color;
import android.net.Uri;
import android.os.Looper;
import android.view.View;
import android.view.ViewGroup;
import android.widget.LinearLayout;
import android.widget.ProgressBar;
import android.widget.RadioButton;
import android.widget.RadioGroup;
import android.widget.SeekBar;
import android.widget.TextView;
import android.widget.ToggleButton;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.Shadows;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;
import org.robolectric.shadows.ShadowActivity;

/** What a person sees and taps. With -Dstemforge.out=FOLDER pictures are kept there. */
@RunWith(RobolectricTestRunner.class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = 35, shadows = {Phone.Extractor.class, Phone.Codec.class}, qualifiers = "w400dp-h700dp-xhdpi")
public final class ScreenTest {
  private ActivityController<MainActivity> screen;

  @Before
  public void open() {
    Phone.install();
    Phone.installMusic();
    Shadows.shadowOf(RuntimeEnvironment.getApplication())
        .grantPermissions(Manifest.permission.POST_NOTIFICATIONS);
    screen = Robolectric.buildActivity(MainActivity.class).setup();
  }

  @After
  public void close() {
    SeparationService.show(Progress.NOTHING);
    screen.close();
  }

  private View view(int id) {
    return screen.get().findViewById(id);
  }

  private boolean sees(int id) {
    return view(id).isShown();
  }

  private String text(int id) {
    return ((TextView) view(id)).getText().toString();
  }

  private ShadowActivity shadow() {
    return Shadows.shadowOf((Activity) screen.get());
  }

  private void tap(int id) {
    view(id).performClick();
    Shadows.shadowOf(Looper.getMainLooper()).idle();
  }

  private void picture(String name) throws IOException {
    String out = System.getProperty("stemforge.out");
    if (out == null) {
      return;
    }
    Bitmap bitmap = drawn();
    try (OutputStream file = Files.newOutputStream(Paths.get(out, name + ".png"))) {
      bitmap.compress(Bitmap.CompressFormat.PNG, 100, file);
    }
  }

  private Bitmap drawn() {
    Shadows.shadowOf(Looper.getMainLooper()).idle(); // lays it out
    View all = screen.get().getWindow().getDecorView();
    Bitmap bitmap = Bitmap.createBitmap(all.getWidth(), all.getHeight(), Bitmap.Config.ARGB_8888);
    all.draw(new Canvas(bitmap));
    return bitmap;
  }

  /** Taps, and picks that document in the system's picker. */
  private Intent pick(Uri uri) {
    tap(R.id.choose);
    Intent asked = shadow().getNextStartedActivityForResult().intent;
    Intent data = uri == null ? null : new Intent().setData(uri);
    shadow().receiveResult(asked, Activity.RESULT_OK, data);
    return Shadows.shadowOf(RuntimeEnvironment.getApplication()).getNextStartedService();
  }

  @Test
  public void atFirstOffersToChooseASong() throws IOException {
    picture("start");
    assertTrue(sees(R.id.choose));
    assertFalse(sees(R.id.cancel));
    assertFalse(sees(R.id.progress));
    assertFalse(sees(R.id.player));
    assertFalse(sees(R.id.status));
    tap(R.id.choose);
    Intent asked = shadow().getNextStartedActivityForResult().intent;
    assertEquals(Intent.ACTION_OPEN_DOCUMENT, asked.getAction());
    assertEquals("audio/*", asked.getType());
  }

  @Test
  public void handsTheSongToTheService() {
    Uri uri = Phone.document("My song.mp3", Phone.MIME, Phone.song());
    ((RadioButton) view(R.id.m4a)).setChecked(true);
    Intent started = pick(uri);
    assertEquals(SeparationService.class.getName(), started.getComponent().getClassName());
    assertEquals(uri, started.getData());
    assertEquals("My song", started.getStringExtra("song"));
    assertEquals("M4A", started.getStringExtra("format"));
    assertEquals(Assets.models(screen.get()).get(0).name, started.getStringExtra("model"));
    assertTrue((started.getFlags() & Intent.FLAG_GRANT_READ_URI_PERMISSION) != 0);
  }

  @Test
  public void nothingPickedStartsNothing() {
    assertNull(pick(null));
  }

  @Test
  public void offersEachModelByItsStems() {
    RadioGroup choice = (RadioGroup) view(R.id.models);
    assertEquals(Assets.models(screen.get()).size(), choice.getChildCount());
    assertEquals(choice.getChildCount() > 1, sees(R.id.models));
    ((RadioButton) choice.getChildAt(choice.getChildCount() - 1)).setChecked(true);
    Intent started = pick(Phone.document("a.mp3", Phone.MIME, Phone.song()));
    Model last = Assets.models(screen.get()).get(choice.getChildCount() - 1);
    assertEquals(last.name, started.getStringExtra("model"));
    String text = String.join(", ", last.stems) + " (" + last.name + ")";
    assertEquals(text, ((RadioButton) choice.getChildAt(choice.getChildCount() - 1)).getText());
  }

  @Test
  public void showsProgressAndCancels() throws IOException {
    SeparationService.show(Progress.running("Song", -1));
    assertTrue(((ProgressBar) view(R.id.progress)).isIndeterminate());
    SeparationService.show(Progress.running("Song", 42));
    picture("running");
    assertEquals(42, ((ProgressBar) view(R.id.progress)).getProgress());
    assertFalse(view(R.id.choose).isEnabled());
    assertEquals("Separating Song", text(R.id.status));
    tap(R.id.cancel);
    Intent sent = Shadows.shadowOf(RuntimeEnvironment.getApplication()).getNextStartedService();
    assertEquals("stemforge.app.CANCEL", sent.getAction());
    SeparationService.show(Progress.cancelling("Song", "Cancelling"));
    assertEquals("Cancelling", text(R.id.status));
    assertFalse(view(R.id.cancel).isEnabled());
  }

  @Test
  public void showsWhatWentWrong() throws IOException {
    String message = screen.get().getString(R.string.no_decoder, "audio/x-ms-wma");
    SeparationService.show(Progress.failed("Song", message));
    picture("failed");
    assertEquals(message, text(R.id.status));
    assertTrue(view(R.id.choose).isEnabled());
    assertFalse(sees(R.id.player));
  }

  private void finish() {
    Progress.Stem vocals =
        new Progress.Stem("vocals", Phone.document("v", Phone.MIME, Phone.song()));
    Progress.Stem rest =
        new Progress.Stem("accompaniment", Phone.document("a", Phone.MIME, Phone.song()));
    SeparationService.show(Progress.done("Song", Arrays.asList(vocals, rest), 83.0));
  }

  @Test
  public void playsWithSoloAndMute() throws IOException {
    finish();
    LinearLayout rows = (LinearLayout) view(R.id.stems);
    assertEquals(2, rows.getChildCount());
    TextView name = rows.getChildAt(1).findViewById(R.id.name);
    assertEquals("accompaniment", name.getText());
    ToggleButton solo = rows.getChildAt(0).findViewById(R.id.solo);
    assertEquals("Solo vocals", solo.getContentDescription());
    solo.performClick();
    picture("player");
    assertEquals("00:00 / 01:23", text(R.id.time));
    assertTrue(screen.get().player().mixer().hears(0));
    assertFalse(screen.get().player().mixer().hears(1));
    ToggleButton mute = rows.getChildAt(0).findViewById(R.id.mute);
    mute.performClick();
    assertFalse(screen.get().player().mixer().hears(0));
    tap(R.id.play);
    assertTrue(screen.get().player().playing());
    assertEquals("Pause", text(R.id.play));
    screen.pause().stop(); // another app is in front
    assertFalse(screen.get().player().playing());
    screen.start().resume();
    assertEquals("Play", text(R.id.play));
  }

  @Test
  public void aNewSongReplacesThePlayer() {
    finish();
    StemPlayer before = screen.get().player();
    SeparationService.show(Progress.running("Next", 1));
    assertFalse(sees(R.id.player));
    finish();
    assertTrue(before != screen.get().player());
    assertEquals(2, ((ViewGroup) view(R.id.stems)).getChildCount());
  }

  @Test
  public void survivesBeingMadeAgain() {
    finish();
    LinearLayout rows = (LinearLayout) view(R.id.stems);
    ((ToggleButton) rows.getChildAt(1).findViewById(R.id.mute)).setChecked(true);
    screen.recreate();
    assertTrue(sees(R.id.player));
    assertTrue(text(R.id.status).contains("Music/stemforge"));
    assertTrue(screen.get().player().mixer().hears(0));
    assertTrue(screen.get().player().mixer().hears(1)); // as its new buttons say
  }

  @Test
  public void seeksWhereAFingerIsLifted() {
    finish();
    SeekBar place = (SeekBar) view(R.id.place);
    assertEquals(83_000, place.getMax());
    SeekBar.OnSeekBarChangeListener listener =
        Shadows.shadowOf(place).getOnSeekBarChangeListener();
    listener.onStartTrackingTouch(place);
    listener.onProgressChanged(place, 60_000, true);
    assertEquals(0.0, screen.get().player().positionS(), 0.0);
    assertEquals("01:00 / 01:23", text(R.id.time));
    screen.get().moved(1.0); // of the place before
    assertEquals("01:00 / 01:23", text(R.id.time));
    listener.onStopTrackingTouch(place);
    assertEquals(60.0, screen.get().player().positionS(), 0.0);
    listener.onProgressChanged(place, 61_000, true); // a key
    assertEquals(61.0, screen.get().player().positionS(), 0.0);
  }

  @Test
  @Config(qualifiers = "+night")
  public void isDarkAtNight() throws IOException {
    finish();
    picture("night");
    Bitmap bitmap = drawn();
    int corner = bitmap.getPixel(bitmap.getWidth() / 2, bitmap.getHeight() - 40);
    assertTrue(Color.luminance(corner) < 0.1);
  }
}
