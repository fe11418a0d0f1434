"""What Streamlit runs anew for each click."""

from seatrial.demo.streamlit_app import draw_page

draw_page()
